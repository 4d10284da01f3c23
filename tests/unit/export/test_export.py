"""An exported student is loaded by transformers' own classes and replies as before."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from fcotvl.compress.checkpoints import make_student, processor_for
from fcotvl.export.export import export_student, model_card
from tests.support import models


@pytest.mark.parametrize("name", ["cnn", "adaptive"])
def test_the_folder_is_enough_to_ask_the_student(tmp_path, name):
    options = models.OPTIONS.get(name)
    student = make_student(models.teacher(), compressor=name, ratio=0.75, options=options)
    export_student(student, models.processor(), tmp_path, name="small", stage="distill")
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    inputs = processor([models.picture(112, 56)], processor.render("What?"), return_tensors="pt")
    ours = processor_for(models.processor(), student.config)
    expected = ours([models.picture(112, 56)], ours.render("What?"))
    assert torch.equal(inputs["input_ids"], expected["input_ids"])
    reply = loaded.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert torch.equal(reply, student.generate(**expected, max_new_tokens=5, do_sample=False))


def test_the_card_states_tokens_and_costs():
    student = make_student(models.teacher(), compressor="pool", ratio=0.75)
    text = model_card(student, models.processor(max_tiles=4), name="small", stage="sft")
    assert text.startswith("---\nlibrary_name: transformers\n")
    assert "Made by stage\n`sft` of [fcotvl]" in text
    assert "reads 4 instead of 16 visual tokens per tile: 75.0% of them" in text
    # 5 tiles: 5 * 4 + 50 tokens in the cache instead of 5 * 16 + 50.
    assert f"| KV cache against no compression | {70 / 130:.0%} |" in text
    assert "| of which compressor | 0 |" in text


def test_the_card_of_a_mean_budget_says_so():
    student = make_student(models.teacher(), compressor="adaptive", ratio=0.75)
    text = model_card(student, models.processor(max_tiles=4), name="small", stage="sft")
    assert "reads 8 or 2 instead of 16 visual tokens per tile: on average 75.0% of them" in text
    assert f"| KV cache against no compression | {70 / 130:.0%} |" in text
