from collections import Counter
from dataclasses import replace
from random import Random

import pytest
import torch

from fcotvl.compress.checkpoints import make_student
from fcotvl.core.config import DistillParams, OptimParams
from fcotvl.core.prompts import Prompts
from fcotvl.train.dataset import Corpus
from fcotvl.train.distill import DistillObjective, DistillTask, choose_chats
from fcotvl.train.loop import train
from fcotvl.train.packing import MAX_TURNS, BatchBuilder
from tests.support import corpora, models

PROMPTS = Prompts(direct="{question} Briefly.", cot="{question} Reason.")


@pytest.fixture
def teacher():
    return models.teacher()


@pytest.fixture
def builder(tmp_path):
    corpus = Corpus(corpora.write(tmp_path) / "align")
    return BatchBuilder(corpus, models.processor(), PROMPTS, max_tiles=4)


def make_task(teacher, builder, name, ratio, *, seed=0, **weights):
    options = models.OPTIONS if name == "adaptive" else {}
    student = make_student(teacher, compressor=name, ratio=ratio, options=options.get(name), share_frozen=True)
    objective = DistillObjective(teacher, student, DistillParams(temperature=1.0, **{"ce_weight": 0.0} | weights))
    return DistillTask(objective=objective, builder=builder.for_student(student.config), batch_size=4, seed=seed)


def test_a_student_that_compresses_nothing_agrees_with_its_teacher(teacher, builder):
    task = make_task(teacher, builder, "identity", 0.0)
    sums = task.objective(task.collate(*task.sample_items(range(1, 2), [])))
    assert (sums["kl"] / sums["weight"]).abs().max() < 1e-6
    assert (sums["ce"] / sums["weight"]).min() > 0.1


def test_a_student_that_compresses_does_not(teacher, builder):
    task = make_task(teacher, builder, "pool", 0.5)
    sums = task.objective(task.collate(*task.sample_items(range(1, 2), [])))
    assert (sums["kl"] / sums["weight"]).min() > 1e-3


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_loss_mixes_both_terms(teacher, builder, share):
    task = make_task(teacher, builder, "cnn", 0.5, ce_weight=share)
    sums = task.objective(task.collate(*task.sample_items(range(1, 2), [])))
    torch.testing.assert_close(sums["loss"], (1 - share) * sums["kl"] + share * sums["ce"])


@pytest.mark.parametrize("name", ["cnn", "adaptive", "nested"])
def test_the_distance_of_hidden_states_is_added_and_logged(teacher, builder, name):
    task = make_task(teacher, builder, name, 0.5, hidden_weight=3.0)
    (items,) = task.sample_items(range(1, 2), [])
    sums = task.objective(task.collate(items))
    torch.testing.assert_close(sums["loss"], sums["kl"] + 3 * sums["hidden"])
    assert (sums["hidden"] > 0).all()
    (row,) = task.record(1, items, {key: values.tolist() for key, values in sums.items()}, lr=0.1)
    hidden = float((sums["hidden"].sum() / sums["weight"].sum()).detach())
    assert row["hidden"] == pytest.approx(hidden, abs=1e-6)
    sums["loss"].sum().backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("name", ["cnn", "qformer", "pool", "adaptive", "nested"])
def test_only_compressor_and_projector_learn_and_the_loss_goes_down(teacher, builder, name, tmp_path):
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    task = make_task(teacher, builder, name, 0.5)
    student = task.objective.student
    start = {key: value.clone() for key, value in student.state_dict().items()}
    optim = OptimParams(steps=12, batch_size=4, lr=3e-3, warmup=0.1, weight_decay=0.0, workers=0)
    log = train(task, optim, seed=0, folder=tmp_path)
    assert sum(row["kl"] for row in log[-3:]) < sum(row["kl"] for row in log[:3])
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, before[key]), key
    for key, value in student.state_dict().items():
        learned = "compressor" in key or "multi_modal_projector" in key
        assert torch.equal(value, start[key]) != learned, key


def drawn(task, steps):
    """Visual tokens of a tile of each picture of each step, which all its tiles share."""
    batches = [task.collate(items) for items in task.sample_items(steps, [])]
    pictures = []
    for batch in batches:
        tokens = iter(batch.tile_tokens)
        own = [{next(tokens) for _ in range(tiles)} for tiles in batch.num_tiles]
        assert all(len(counts) == 1 for counts in own)
        pictures += [count for (count,) in own]
    return pictures


def test_a_rate_is_drawn_for_each_picture_of_each_step(teacher, builder):
    task = make_task(teacher, builder, "nested", 0.5)
    first = drawn(task, range(1, 16))
    assert Counter(first).keys() == {16, 12, 8, 4, 2}
    assert max(Counter(first).values()) < 2 * len(first) / 5
    assert drawn(make_task(teacher, builder, "nested", 0.75), range(1, 16)) == first
    assert drawn(make_task(teacher, builder, "nested", 0.5, seed=1), range(1, 16)) != first
    (items,) = task.sample_items(range(2, 3), [])
    shared = [task.collate(items[rank::2]) for rank in range(2)]  # between two processes
    assert [len(batch.tile_tokens) for batch in shared] == [sum(batch.num_tiles) for batch in shared]
    alone = [task.collate([item]).tile_tokens[0] for item in items]
    assert alone == first[4:8]


def test_one_student_learns_every_rate(teacher, builder, tmp_path):
    task = make_task(teacher, builder, "nested", 0.5)
    batch = task.collate(*task.sample_items(range(1, 2), []))

    def kl():
        found = {}
        for tokens in task.builder.tile_tokens:
            with torch.no_grad():
                sums = task.objective(replace(batch, tile_tokens=[tokens] * sum(batch.num_tiles)))
            found[tokens] = float(sums["kl"].sum() / sums["weight"].sum())
        return found

    before = kl()
    assert before[16] < 1e-6  # nothing is removed: the teacher itself
    optim = OptimParams(steps=20, batch_size=4, optimizer="muon", lr=3e-3, warmup=0.1, workers=0)
    train(task, optim, seed=0, folder=tmp_path)
    after = kl()
    for tokens in (12, 8, 4, 2):
        assert after[tokens] < before[tokens]


def test_every_picture_is_sampled_once_an_epoch(teacher, builder):
    task = make_task(teacher, builder, "pool", 0.5)
    refs = [ref for items in task.sample_items(range(1, 4), []) for _, ref in items]
    assert sorted(refs) == sorted(ref for group in builder.corpus.refs() for ref in group)


def test_a_batch_follows_from_seed_and_step(teacher, builder):
    task, again = make_task(teacher, builder, "pool", 0.5), make_task(teacher, builder, "pool", 0.5)
    again.sample_items(range(5, 6), [])
    one, other = (t.collate(*t.sample_items(range(2, 3), [])) for t in (task, again))
    assert one.turns == other.turns
    assert torch.equal(one.pixel_values, other.pixel_values)


def test_the_transcription_comes_first_and_turns_are_capped():
    record = corpora.record(3)
    many = record.turns + tuple(corpora.record(i).turns[1] for i in range(4, 9))
    chats = choose_chats(many, PROMPTS, Random(0))
    assert len(chats) == MAX_TURNS
    assert chats[0].prompt == "Read."


def test_questions_with_a_rationale_are_asked_under_both_prompts():
    asked = corpora.record(3).turns[1:2]
    chats = {chat for i in range(20) for chat in choose_chats(asked, PROMPTS, Random(i))}
    assert {chat.prompt for chat in chats} == {"Value? Briefly.", "Value? Reason."}
    assert {chat.reply for chat in chats} == {"3", "It says 3\nAnswer: 3"}
