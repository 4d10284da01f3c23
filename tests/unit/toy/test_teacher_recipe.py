"""The whole recipe in miniature: every phase, resuming, and a checkpoint that loads everywhere."""

import json

import pytest
import torch
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.checkpoints import load_processor, load_teacher
from fcotvl.core.config import TeacherBudget
from fcotvl.toy.teacher.recipe import save_teacher, train_teacher

BUDGET = TeacherBudget(vision_steps=2, text_steps=4, joint_steps=2, pages=4, chats=2, sample_pictures=40)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    scratch = tmp_path_factory.mktemp("scratch")
    return scratch, *train_teacher(BUDGET, seed=1, scratch=scratch)


def test_a_finished_recipe_is_not_trained_again(trained, caplog):
    scratch, model, _ = trained
    logs = [path.read_text() for path in sorted(scratch.glob("*/log.json"))]
    assert len(logs) == 3
    assert all(json.loads(text)[-1]["seconds"] > 0 for text in logs)
    again, _ = train_teacher(BUDGET, seed=1, scratch=scratch)
    assert "accuracy ends" not in caplog.text
    assert [path.read_text() for path in sorted(scratch.glob("*/log.json"))] == logs
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name


def test_the_recipe_depends_on_its_seed_alone(trained, tmp_path):
    torch.manual_seed(99)  # the recipe must not use the global generator
    again, _ = train_teacher(BUDGET, seed=1, scratch=tmp_path)
    for name, parameter in trained[1].named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name


def test_every_part_has_learned(trained):
    _, model, tokenizer = trained
    untrained = BUDGET.model_copy(update={"vision_steps": 0, "text_steps": 0, "joint_steps": 0})
    assert len(tokenizer) > 256
    scratch = trained[0] / "untrained"
    fresh, _ = train_teacher(untrained, seed=1, scratch=scratch)
    for part in ("vision_tower", "multi_modal_projector", "language_model"):
        ours, theirs = (getattr(m.model, part).parameters() for m in (model, fresh))
        assert any(not torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)), part


def test_the_saved_checkpoint_loads_here_and_in_stock_transformers(trained, tmp_path):
    _, model, tokenizer = trained
    save_teacher(model, tokenizer, tmp_path)
    ours, stock = load_teacher(tmp_path), InternVLForConditionalGeneration.from_pretrained(tmp_path)
    processor = load_processor(tmp_path)
    assert processor.image_seq_length == model.config.image_seq_length == 64
    text = processor.render("Read the text.")
    ids = processor.tokenizer(processor.expand([text], [1]), return_tensors="pt")
    pixels = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        logits = [m(**ids, pixel_values=pixels).logits for m in (model, ours, stock)]
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])
