"""vLLM serves a student by the plugin that this package declares, with the replies of ``generate``."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tomllib

import pytest

from fcotvl.compress.checkpoints import load_processor, load_teacher, make_student, processor_for
from fcotvl.core.prompts import Prompts
from fcotvl.export import vllm_plugin
from fcotvl.export.export import MODEL_CLASSES, export_student
from fcotvl.toy.render import render
from tests.support.imports import ROOT

TOKENS = 16
PICTURES = [("chart", (1, 1)), ("document", (2, 1)), ("infographic", (1, 3))]
"""Families and how far each is stretched, so that pictures become different numbers of tiles."""
ASK = """
import json, sys
from PIL import Image
from vllm import LLM, SamplingParams

if __name__ == "__main__":
    llm = LLM(model=sys.argv[1], dtype="float32", max_model_len=1024, enforce_eager=True)
    chats = [
        [{"role": "user", "content": [*({"type": "image_pil", "image_pil": Image.open(p)} for p in pictures),
                                      {"type": "text", "text": question}]}]
        for pictures, question in json.loads(sys.argv[2])
    ]
    outputs = llm.chat(chats, SamplingParams(temperature=0, max_tokens=int(sys.argv[3])))
    print("SAID", json.dumps([[o.outputs[0].text, len(o.prompt_token_ids)] for o in outputs]))
"""


def test_the_plugin_is_declared_for_the_architecture_of_students():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, function = project["entry-points"]["vllm.general_plugins"]["fcotvl"].partition(":")
    assert getattr(importlib.import_module(module), function) is vllm_plugin.register
    assert MODEL_CLASSES["AutoModelForImageTextToText"] == vllm_plugin.ARCHITECTURE


def test_vllm_replies_like_generate(tmp_path):
    pytest.importorskip("vllm", reason="the extra vllm is not installed")
    student = make_student(load_teacher(ROOT / "teachers/tiny"), compressor="cnn", ratio=0.5)
    processor = processor_for(load_processor(ROOT / "teachers/tiny"), student.config)
    processor.image_processor.max_tiles = 4
    export_student(student, processor, tmp_path / "mine", name="mine", stage="distill", prompts=Prompts())
    questions, expected = [], []
    for index, (family, (across, down)) in enumerate(PICTURES):
        page = render(family, "test", index, seed=0)
        picture = page.image.resize((224 * across, 224 * down))
        picture.save(tmp_path / f"{index}.png")
        question = page.turns[0].question
        questions.append(([f"{tmp_path}/{index}.png"], question))
        inputs = processor([picture], processor.render(question))
        reply = student.generate(**inputs, do_sample=False, max_new_tokens=TOKENS)
        length = inputs["input_ids"].shape[1]
        assert len(inputs["pixel_values"]) == across * down + (across * down > 1)
        expected.append([processor.decode(reply[0, length:], skip_special_tokens=True), length])
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(tmp_path / "mine"), json.dumps(questions), str(TOKENS)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("SAID ")]
    assert said, done.stderr[-3000:]
    assert json.loads(said[0].removeprefix("SAID ")) == expected
