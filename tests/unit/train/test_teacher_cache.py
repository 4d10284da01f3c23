"""A batch passes the teacher once for all students of a seed, and what they learn is the same bit for bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fcotvl.compress.checkpoints import make_student
from fcotvl.core.config import DistillParams, OptimParams
from fcotvl.core.prompts import Prompts
from fcotvl.train import distill, teacher_cache
from fcotvl.train.dataset import Corpus
from fcotvl.train.distill import DistillObjective, DistillTask
from fcotvl.train.loop import train
from fcotvl.train.packing import BatchBuilder
from fcotvl.train.teacher_cache import TeacherCache
from tests.support import corpora, models

PROMPTS = Prompts(direct="{question} Briefly.", cot="{question} Reason.")


@pytest.fixture
def builder(tmp_path):
    return BatchBuilder(Corpus(corpora.write(tmp_path) / "align"), models.processor(), PROMPTS, max_tiles=4)


@pytest.fixture
def asked(monkeypatch):
    """The batches that passed a teacher's LLM."""
    seen = []
    plain = DistillObjective._ask_teacher

    def ask(self, batch, tokens, *, hidden):
        seen.append(batch)
        return plain(self, batch, tokens, hidden=hidden)

    monkeypatch.setattr(distill.DistillObjective, "_ask_teacher", ask)
    return seen


@pytest.fixture
def make(tmp_path, builder):
    """A distillation of a fresh student, with a cache of its own in the folder that all share, or without one."""

    def task(compressor="cnn", ratio=0.5, *, teacher=None, cached=True, gigabytes=1.0, **losses):
        teacher = teacher or models.teacher()
        student = make_student(
            teacher, compressor=compressor, ratio=ratio, options=models.OPTIONS.get(compressor), share_frozen=True
        )
        cache = TeacherCache(teacher, tmp_path / "kept", gigabytes) if cached else None
        params = DistillParams(temperature=1.0, **{"ce_weight": 0.25} | losses)
        objective = DistillObjective(teacher, student, params, cache)
        return DistillTask(objective=objective, builder=builder.for_student(student.config), batch_size=4, seed=0)

    return task


def first_batch(task):
    return task.collate(*task.sample_items(range(1, 2), []))


def losses(task, batch=None):
    with torch.no_grad():
        return task.objective(batch or first_batch(task))


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert torch.equal(found[name], values), name


@pytest.mark.parametrize("hidden_weight", [0.0, 3.0])
def test_students_of_a_seed_share_what_the_teacher_read(make, asked, hidden_weight):
    points = [("cnn", 0.5), ("cnn", 0.75), ("adaptive", 0.5), ("nested", 0.5)]
    expected = [losses(make(*point, cached=False, hidden_weight=hidden_weight)) for point in points]
    asked.clear()
    found = [losses(make(*point, hidden_weight=hidden_weight)) for point in points]
    assert len(asked) == 1
    assert ("hidden" in found[0]) == (hidden_weight > 0)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_a_student_learns_the_same_bits(make, asked, tmp_path):
    optim = OptimParams(steps=4, batch_size=4, lr=3e-3, warmup=0.1, workers=0)
    trained = []
    for number, cached in enumerate((False, True, True)):
        task = make(cached=cached)
        log = train(task, optim, seed=0, folder=tmp_path / str(number))
        trained.append((log, task.objective.student.state_dict()))
    assert len(asked) == 4 + 4 + 0
    for log, state in trained[1:]:
        assert log == trained[0][0]
        assert_same(state, trained[0][1])


@pytest.mark.parametrize("change", ["weights", "autocast", "pixel", "question", "part", "hidden", "code"])
def test_whatever_changes_what_the_teacher_reads_is_another_entry(make, asked, tmp_path, monkeypatch, change):
    batch = first_batch(make())
    losses(make(), batch)
    teacher, hidden = models.teacher(), 3.0 if change == "hidden" else 0.0
    if change == "weights":
        with torch.no_grad():
            teacher.model.language_model.layers[2].mlp.up_proj.weight[3, 5] += 0.5
    elif change == "pixel":
        batch.pixels[0, 1, 5, 7] ^= 128
    elif change == "question":
        turn = batch.turns[1][0]
        changed = replace(turn, suffix=[turn.suffix[1], turn.suffix[0], *turn.suffix[2:]])
        batch = replace(batch, turns=[batch.turns[0], [changed, *batch.turns[1][1:]], *batch.turns[2:]])
    elif change == "part":
        batch = batch.select([0, 2])
    elif change == "code":
        (tmp_path / "packing.py").write_text("# of another version")
        monkeypatch.setattr(teacher_cache, "code_of", lambda _: [tmp_path / "packing.py"])
    with torch.autocast("cpu", torch.bfloat16, enabled=change == "autocast"):
        found = losses(make(teacher=teacher, hidden_weight=hidden), batch)
        assert len(asked) == 2
        assert_same(found, losses(make(teacher=teacher, cached=False, hidden_weight=hidden), batch))


def test_no_more_is_kept_than_there_is_room_for(make, asked):
    for _ in range(2):
        task = make(gigabytes=1e-9)
        for step in range(1, 4):
            losses(task, task.collate(*task.sample_items(range(step, step + 1), [])))
    assert len(asked) == 6
