"""An exported student is loaded by transformers' own classes and replies as before."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from fcotvl.compress.checkpoints import make_student, processor_for, read_student_tensors, save_student_tensors
from fcotvl.core import config
from fcotvl.core.errors import CheckpointError
from fcotvl.core.prompts import TEMPLATES, Prompts
from fcotvl.export.export import export_student, model_card
from fcotvl.stages import export
from tests.support import models
from tests.support.documents import code_blocks
from tests.support.imports import ROOT

PROMPTS = Prompts(direct="{question} In a word.", cot="{question} Why?", direct_tokens=5)


@pytest.mark.parametrize("name", ["cnn", "adaptive"])
def test_the_folder_is_enough_to_ask_the_student(tmp_path, name):
    options = models.OPTIONS.get(name)
    student = make_student(models.teacher(), compressor=name, ratio=0.75, options=options, positions="spread")
    export_student(student, models.processor(), tmp_path, name="small", stage="distill", prompts=PROMPTS)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    inputs = processor([models.picture(112, 56)], processor.render("What?"), return_tensors="pt")
    ours = processor_for(models.processor(), student.config)
    expected = ours([models.picture(112, 56)], ours.render("What?"))
    assert torch.equal(inputs["input_ids"], expected["input_ids"])
    assert loaded.config.positions == "spread"
    reply = loaded.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert torch.equal(reply, student.generate(**expected, max_new_tokens=5, do_sample=False))


def test_the_card_states_tokens_and_costs():
    student = make_student(models.teacher(), compressor="pool", ratio=0.75, positions="spread")
    text = model_card(student, models.processor(max_tiles=4), name="small", stage="sft", prompts=PROMPTS)
    assert text.startswith("---\nlibrary_name: transformers\n")
    assert "Made by stage\n`sft` of [fcotvl]" in text
    assert "reads 4 instead of 16 visual tokens per tile: 75.0% of them" in text
    # 5 tiles: 5 * 4 + 50 tokens in the cache instead of 5 * 16 + 50.
    assert f"| KV cache against no compression | {70 / 130:.0%} |" in text
    assert "| of which compressor | 0 |" in text
    assert "visual tokens have\nthe positions of those that they replace." in text


def test_the_card_of_a_mean_budget_says_so():
    student = make_student(models.teacher(), compressor="adaptive", ratio=0.75)
    text = model_card(student, models.processor(max_tiles=4), name="small", stage="sft", prompts=PROMPTS)
    assert "reads 8 or 2 instead of 16 visual tokens per tile: on average 75.0% of them" in text
    assert f"| KV cache against no compression | {70 / 130:.0%} |" in text


def test_the_cards_code_asks_as_the_student_was_trained(tmp_path, monkeypatch, capsys):
    student = make_student(models.teacher(), compressor="pool", ratio=0.75)
    export_student(student, models.processor(), tmp_path, name="small", stage="sft", prompts=PROMPTS)
    picture = models.picture(112, 56)
    picture.save(tmp_path / "page.png")
    monkeypatch.chdir(tmp_path)
    (code,) = code_blocks((tmp_path / "README.md").read_text(), "python")
    exec(code, {})
    ours = processor_for(models.processor(), student.config)
    asked = ours([picture], ours.render("What is the total? In a word."))
    reply = student.generate(**asked, max_new_tokens=5, do_sample=False)
    expected = ours.decode(reply[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)
    assert capsys.readouterr().out == f"{expected}\n"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    student = make_student(models.teacher(), compressor="pool", ratio=0.75)
    export_student(student, models.processor(), folder, name="small", stage="sft", prompts=PROMPTS)
    return folder


LOAD = """
import sys
{before}
import transformers
for auto in {autos!r}:
    try:
        print(type(getattr(transformers, auto).from_pretrained({folder!r}, trust_remote_code={trust})).__name__)
    except (ImportError, ValueError) as error:
        print(type(error).__name__, str(error).splitlines()[-1])
"""


def load(folder, home, *autos, trust, before=""):
    """What a program that does not import the package gets from ``folder``, one line for each Auto class."""
    code = LOAD.format(before=before, autos=autos, folder=str(folder), trust=trust)
    env = os.environ | {"HF_HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    return [line for line in done.stdout.splitlines() if line.startswith(("Fcotvl", "ValueError", "ImportError"))]


NAMES = {
    "AutoModelForImageTextToText": "FcotvlForConditionalGeneration",
    "AutoModelForMultimodalLM": "FcotvlForConditionalGeneration",
    "AutoProcessor": "FcotvlProcessor",
    "AutoImageProcessor": "FcotvlImageProcessor",
    "AutoConfig": "FcotvlConfig",
}


def test_without_an_import_of_the_package_the_folder_is_refused(exported, tmp_path):
    advice = "Please pass the argument `trust_remote_code=True` to allow custom code to be run."
    assert load(exported, tmp_path, *NAMES, trust=False) == [f"ValueError {advice}"] * len(NAMES)


@pytest.mark.parametrize("first", ["AutoProcessor", "AutoModelForImageTextToText"])
def test_on_trust_the_folder_imports_the_package(exported, tmp_path, first):
    names = {first: NAMES[first]} | NAMES
    assert load(exported, tmp_path, *names, trust=True) == list(names.values())


def test_without_the_package_the_folder_says_what_to_install(exported, tmp_path):
    said = load(exported, tmp_path, *NAMES, trust=True, before="sys.modules['fcotvl'] = None")
    assert len(said) == len(NAMES)
    assert all(line.startswith("ImportError this model needs the Python package fcotvl; install it") for line in said)
    for name in ("config.json", "processor_config.json"):
        assert '"requires_fcotvl.Fcotvl' in (exported / name).read_text()
    assert "the Python package `fcotvl` (made with version" in (exported / "README.md").read_text()


def save_student(folder, compressor):
    """A teacher's folder and, in a folder beside it, a student's tensors."""
    teacher = models.teacher()
    teacher.save_pretrained(folder / "teacher")
    models.processor().save_pretrained(folder / "teacher")
    student = make_student(teacher, compressor=compressor, ratio=0.5)
    torch.manual_seed(0)
    for parameter in student.model.compressor.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    file = folder / "merged/merged.safetensors"
    save_student_tensors(student, file, stage="merge")
    return file


@pytest.fixture
def student_file(tmp_path):
    return save_student(tmp_path, "cnn")


def run(student, ratio=None):
    home = student.parent if student.is_dir() else student.parents[1]
    folder = home / "out"
    export.run(config.load(scale="tiny"), teacher=home / "teacher", student=(student,), folder=folder, ratio=ratio)
    return folder


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.875])
def test_a_student_of_every_ratio_is_exported_at_the_one_that_is_asked_for(tmp_path, ratio):
    file = save_student(tmp_path, "nested")
    loaded = AutoModelForImageTextToText.from_pretrained(run(file, ratio))
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert loaded.config.ratio == ratio
    asked = processor([models.picture(112, 56)], processor.render("What?"))
    visual = int((asked["input_ids"] == processor.image_token_id).sum())
    assert visual == 3 * models.TOKENS * (1 - ratio)
    trained, _ = read_student_tensors(file)
    assert all(torch.equal(loaded.get_parameter(name), tensor) for name, tensor in trained.items())
    assert f"nested {ratio} of tiny" in (tmp_path / "out/README.md").read_text()
    assert loaded.generate(**asked, max_new_tokens=2, do_sample=False).shape[0] == 1


def test_a_student_of_one_ratio_is_refused_at_another(student_file):
    message = r"merged\.safetensors is of cnn at 0\.5 and does not serve ratio 0\.75 \(but 0\.5\); distil one that does"
    with pytest.raises(CheckpointError, match=message):
        run(student_file, 0.75)


def test_a_folder_with_one_student_is_exported_like_its_file(student_file):
    by_file = {path.name: path.read_bytes() for path in run(student_file).iterdir()}
    assert {path.name: path.read_bytes() for path in run(student_file.parent).iterdir()} == by_file
    card = by_file["README.md"].decode()
    assert all(f"`{TEMPLATES['tiny'][prompt]}`" in card for prompt in ("direct", "cot"))


def test_of_a_folder_of_students_one_has_to_be_named(student_file):
    (student_file.parent / "uniform.safetensors").write_bytes(student_file.read_bytes())
    with pytest.raises(CheckpointError, match=r"holds 2 students \(merged, uniform\); .*such as .*merged.safetensors"):
        run(student_file.parent)
    student_file.rename(student_file.with_stem("average"))
    with pytest.raises(CheckpointError, match=r"\(average, uniform\); .*such as .*uniform.safetensors"):
        run(student_file.parent)


def test_a_folder_without_students_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="holds no safetensors; run the stage that writes it"):
        run(tmp_path)
