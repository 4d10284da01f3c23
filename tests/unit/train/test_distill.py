from dataclasses import replace
from random import Random

import pytest
import torch

from fcotvl.compress.checkpoints import make_student, processor_for
from fcotvl.core.config import DistillParams, OptimParams
from fcotvl.core.prompts import Prompts
from fcotvl.train.dataset import Corpus
from fcotvl.train.distill import TURNS, Distill, Distillation, choose_chats
from fcotvl.train.loop import train
from fcotvl.train.reader import Reader
from tests.support import corpora, models

PROMPTS = Prompts(direct="{question} Briefly.", cot="{question} Reason.")


@pytest.fixture
def teacher():
    return models.teacher()


@pytest.fixture
def reader(tmp_path):
    corpus = Corpus(corpora.write(tmp_path) / "align")
    return Reader(corpus, models.processor(), PROMPTS, max_tiles=4)


def task(teacher, reader, name, ratio, ce_weight=0.0):
    options = models.OPTIONS if name == "adaptive" else {}
    student = make_student(
        teacher, compressor=name, ratio=ratio, options=options.get(name), share_frozen=True
    )
    reader = replace(reader, processor=processor_for(reader.processor, student.config))
    objective = Distillation(teacher, student, DistillParams(temperature=1.0, ce_weight=ce_weight))
    return Distill(objective=objective, reader=reader, batch_size=4, seed=0)


def test_a_student_that_compresses_nothing_agrees_with_its_teacher(teacher, reader):
    made = task(teacher, reader, "identity", 0.0)
    sums = made.objective(made.collate(made.draw(1, [])))
    assert (sums["kl"] / sums["weight"]).abs().max() < 1e-6
    assert (sums["ce"] / sums["weight"]).min() > 0.1


def test_a_student_that_compresses_does_not(teacher, reader):
    made = task(teacher, reader, "pool", 0.5)
    sums = made.objective(made.collate(made.draw(1, [])))
    assert (sums["kl"] / sums["weight"]).min() > 1e-3


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_loss_mixes_both_terms(teacher, reader, share):
    made = task(teacher, reader, "cnn", 0.5, ce_weight=share)
    sums = made.objective(made.collate(made.draw(1, [])))
    torch.testing.assert_close(sums["loss"], (1 - share) * sums["kl"] + share * sums["ce"])


@pytest.mark.parametrize("name", ["cnn", "qformer", "pool", "adaptive"])
def test_only_compressor_and_projector_learn_and_the_loss_goes_down(
    teacher, reader, name, tmp_path
):
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    made = task(teacher, reader, name, 0.5)
    student = made.objective.student
    start = {key: value.clone() for key, value in student.state_dict().items()}
    optim = OptimParams(steps=12, batch_size=4, lr=3e-3, warmup=0.1, weight_decay=0.0)
    log = train(made, optim, seed=0, folder=tmp_path)
    assert sum(row["kl"] for row in log[-3:]) < sum(row["kl"] for row in log[:3])
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, before[key]), key
    for key, value in student.state_dict().items():
        learned = "compressor" in key or "multi_modal_projector" in key
        assert torch.equal(value, start[key]) != learned, key


def test_every_picture_is_drawn_once_an_epoch(teacher, reader):
    made = task(teacher, reader, "pool", 0.5)
    places = [place for step in (1, 2, 3) for _, place in made.draw(step, [])]
    assert sorted(places) == sorted(place for group in reader.corpus.places() for place in group)


def test_a_batch_follows_from_seed_and_step(teacher, reader):
    made, again = task(teacher, reader, "pool", 0.5), task(teacher, reader, "pool", 0.5)
    again.draw(5, [])
    one, other = (t.collate(t.draw(2, [])) for t in (made, again))
    assert one.turns == other.turns
    assert torch.equal(one.pixel_values, other.pixel_values)


def test_the_transcription_comes_first_and_turns_are_capped():
    record = corpora.record(3)
    many = record.turns + tuple(corpora.record(i).turns[1] for i in range(4, 9))
    chats = choose_chats(many, PROMPTS, Random(0))
    assert len(chats) == TURNS
    assert chats[0].prompt == "Read."


def test_questions_with_a_rationale_are_asked_under_both_prompts():
    asked = corpora.record(3).turns[1:2]
    chats = {chat for i in range(20) for chat in choose_chats(asked, PROMPTS, Random(i))}
    assert {chat.prompt for chat in chats} == {"Value? Briefly.", "Value? Reason."}
    assert {chat.reply for chat in chats} == {"3", "It says 3\nAnswer: 3"}
