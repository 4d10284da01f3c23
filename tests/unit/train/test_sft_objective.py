"""The loss of fine-tuning: cross-entropy, or with the teacher's KL beside it."""

from dataclasses import replace

import pytest
import torch

from fcotvl.compress.checkpoints import make_student, processor_for
from fcotvl.core.config import LossParams
from fcotvl.core.prompts import Prompts
from fcotvl.train import losses as all_losses
from fcotvl.train.dataset import Corpus
from fcotvl.train.packing import BatchBuilder
from fcotvl.train.sft import SftObjective, teacher_reference
from fcotvl.train.sft_datasets import SftDatasets
from tests.support import corpora, models


def losses(tmp_path, ce_weight, ratio=0.5, hidden_weight=0.0):
    """Sums of one batch, and the objective that gave them."""
    teacher = models.teacher()
    corpus = Corpus(corpora.write(tmp_path) / "instruct")
    student = make_student(teacher, compressor="pool" if ratio else "identity", ratio=ratio)
    builder = BatchBuilder(corpus, models.processor(), Prompts(), max_tiles=4)
    builder = replace(builder, processor=processor_for(builder.processor, student.config))
    datasets = SftDatasets.from_corpus(corpus, {}, cot=0.0, seed=0)
    name = next(iter(datasets.initial_weights))
    objective = SftObjective(student, teacher, LossParams(ce_weight=ce_weight, hidden_weight=hidden_weight))
    return objective(datasets.batch([datasets.item(name, i) for i in range(3)], builder)), objective


def test_alone_it_is_cross_entropy(tmp_path):
    sums, objective = losses(tmp_path, 1.0)
    assert torch.equal(sums["loss"], sums["ce"])
    assert objective.teacher is None
    assert "hidden" not in sums


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_with_a_teacher_it_is_a_mix_that_leaves_the_teacher_alone(tmp_path, share):
    sums, objective = losses(tmp_path, share)
    kl, _ = losses(tmp_path, 0.0)
    torch.testing.assert_close(sums["loss"], share * sums["ce"] + (1 - share) * kl["loss"])
    assert (kl["loss"] > 0).all()
    sums["loss"].sum().backward()
    trained = {name for name, parameter in objective.named_parameters() if parameter.grad is not None}
    assert trained
    assert not any(name.startswith("teacher.") or "vision_tower" in name for name in trained)


def test_a_student_that_compresses_nothing_has_no_kl(tmp_path):
    sums, _ = losses(tmp_path, 0.0, ratio=0.0)
    assert (sums["loss"] / sums["weight"]).abs().max() < 1e-6


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_distance_of_hidden_states_is_added(tmp_path, share):
    plain, _ = losses(tmp_path, share)
    sums, objective = losses(tmp_path, share, hidden_weight=3.0)
    torch.testing.assert_close(sums["loss"], plain["loss"] + 3 * sums["hidden"])
    torch.testing.assert_close(sums["ce"], plain["ce"])
    assert (sums["hidden"] > 0).all()
    sums["loss"].sum().backward()
    trained = {name for name, parameter in objective.named_parameters() if parameter.grad is not None}
    assert not any(name.startswith("teacher.") or "vision_tower" in name for name in trained)


def test_a_student_that_compresses_nothing_has_the_teachers_hidden_states(tmp_path):
    sums, _ = losses(tmp_path, 1.0, ratio=0.0, hidden_weight=1.0)
    assert (sums["hidden"] / sums["weight"]).abs().max() < 1e-9


def test_the_teachers_loss_is_the_same_however_its_pictures_are_cut(tmp_path, monkeypatch):
    teacher, corpus = models.teacher(), Corpus(corpora.write(tmp_path) / "instruct")
    builder = BatchBuilder(corpus, models.processor(), Prompts(), max_tiles=4)
    datasets = SftDatasets.from_corpus(corpus, {}, cot=0.0, seed=0)
    whole = teacher_reference(teacher, datasets, builder, 2**20)
    assert len(set(whole.values())) > 1
    monkeypatch.setattr(all_losses, "MAX_LOGITS", 2 * teacher.lm_head.out_features)
    assert teacher_reference(teacher, datasets, builder, 1) == pytest.approx(whole, abs=1e-4)
