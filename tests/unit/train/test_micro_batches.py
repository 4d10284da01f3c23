"""Micro-batches, recomputed layers and chunked losses: less memory, the same step."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch

from fcotvl.compress.checkpoints import make_student
from fcotvl.core.config import DistillParams, LossParams, OptimParams
from fcotvl.core.errors import ParamsError
from fcotvl.core.prompts import Prompts
from fcotvl.train import loop, losses
from fcotvl.train.dataset import Corpus
from fcotvl.train.distill import DistillObjective, DistillTask
from fcotvl.train.layers import prepare_layers
from fcotvl.train.loop import train
from fcotvl.train.packing import BatchBuilder
from fcotvl.train.sft import SftObjective
from tests.support import corpora, models
from tests.support.imports import ROOT


def make_task(folder, stage, *, compressor="cnn"):
    """Three steps of distillation, or of fine-tuning on the same batches; tiles and turns differ in number."""
    corpus = Corpus(corpora.write(folder) / "align")
    teacher = models.teacher()
    options = models.OPTIONS.get(compressor)
    student = make_student(teacher, compressor=compressor, ratio=0.5, options=options, share_frozen=stage == "distill")
    builder = BatchBuilder(corpus, models.processor(), Prompts(), max_tiles=4).for_student(student.config)
    if stage == "distill":
        params = DistillParams(temperature=1.0, ce_weight=0.0, hidden_weight=2.0)
        objective = DistillObjective(teacher, student, params)
        return DistillTask(objective, builder, batch_size=4, seed=0)
    objective = SftObjective(student, teacher, LossParams(ce_weight=0.5, hidden_weight=2.0))
    return SameBatches(objective, builder, batch_size=4, seed=0)


@dataclass(frozen=True)
class SameBatches(DistillTask):
    """Fine-tuning on the batches of distillation."""

    objective: SftObjective

    def record(self, step, items, sums, lr):
        return super().record(step, items, sums | {"kl": sums["loss"]}, lr)


def trained(task, folder, *, dtype="float32", strategy="ddp", **how):
    optim = OptimParams(**{"steps": 3, "batch_size": 4, "lr": 1e-3, "warmup": 0.0, "workers": 0, **how})
    log = train(task, optim, seed=0, folder=folder, dtype=dtype, strategy=strategy)
    return [row["loss"] for row in log], dict(task.objective.named_parameters())


@pytest.mark.parametrize("stage", ["distill", "sft"])
@pytest.mark.parametrize(
    ("how", "max_logits"),
    [
        ({"micro_batch_tokens": 1}, 2**27),
        ({"micro_batch_tokens": 700}, 2**27),
        ({"activation_checkpointing": True}, 2**27),
        ({}, 2000),
        ({"micro_batch_tokens": 1, "activation_checkpointing": True}, 2000),
    ],
)
def test_a_step_is_the_same_however_its_memory_is_saved(tmp_path, monkeypatch, stage, how, max_logits):
    expected, weights = trained(make_task(tmp_path / "a", stage), tmp_path / "whole")
    monkeypatch.setattr(losses, "MAX_LOGITS", max_logits)
    calls = []
    task = make_task(tmp_path / "b", stage)
    task.objective.register_forward_hook(lambda *_: calls.append(1))
    found, others = trained(task, tmp_path / "parts", **how)
    assert (len(calls) > 3) == ("micro_batch_tokens" in how)
    assert found == pytest.approx(expected, rel=1e-5)
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, rtol=1e-3, atol=1e-5, msg=name)


def test_recomputing_keeps_less(tmp_path):
    """Bytes that autograd keeps between the forward and the backward pass."""

    def kept(recompute):
        task = make_task(tmp_path / f"{recompute}", "distill")
        prepare_layers(task.objective, OptimParams(steps=1, lr=0.1, activation_checkpointing=recompute))
        batch = task.collate(*task.sample_items(range(1, 2), []))
        total = 0

        def pack(tensor):
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            task.objective(batch)
        return total

    assert kept(recompute=True) < 0.7 * kept(recompute=False)


def test_pictures_are_shared_out_once_and_within_the_budget(tmp_path):
    task = make_task(tmp_path, "distill", compressor="adaptive")
    items = [item for items in task.sample_items(range(1, 3), []) for item in items]
    batch = task.collate(items)
    lengths = batch.lengths()
    assert len(set(lengths)) > 1
    for budget in (1, max(lengths), 2 * max(lengths), 10**6):
        parts = batch.micro_batches(budget)
        assert sorted(item for part in parts for item in part) == list(range(len(items)))
        assert all(len(part) == 1 or len(part) * max(lengths[i] for i in part) <= budget for part in parts)
    assert len(batch.micro_batches(10**6)) == 1
    assert sorted(len(part) for part in batch.micro_batches(10**6, count=3)) == [2, 2, 4]


@pytest.mark.parametrize("compressor", ["adaptive", "nested"])
def test_part_of_a_batch_is_the_batch_of_that_part(tmp_path, compressor):
    task = make_task(tmp_path, "distill", compressor=compressor)
    (items,) = task.sample_items(range(1, 2), [])
    part, alone = task.collate(items).select([1, 3]), task.collate([items[1], items[3]])
    assert torch.equal(part.pixels, alone.pixels)
    assert (part.num_tiles, part.turns, part.tile_tokens) == (alone.num_tiles, alone.turns, alone.tile_tokens)


def test_pixels_are_normalised_on_the_device_to_the_bit(tmp_path):
    task = make_task(tmp_path, "distill")
    (items,) = task.sample_items(range(1, 2), [])
    batch = task.collate(items)
    assert batch.pixels.dtype == torch.uint8
    builder = task.builder
    pictures = [builder.corpus[ref].decode() for _, ref in items]
    expected = builder.processor.image_processor(pictures, max_tiles=builder.max_tiles, return_tensors="pt")
    assert torch.equal(batch.pixel_values, expected["pixel_values"])


def test_a_batch_that_processes_cannot_share_is_one_line(tmp_path, monkeypatch):
    real = loop.make_accelerator

    def three(dtype):
        accelerator = real(dtype)
        monkeypatch.setattr(type(accelerator), "num_processes", 3)
        return accelerator

    monkeypatch.setattr(loop, "make_accelerator", three)
    with pytest.raises(ParamsError, match="a batch of 4 does not divide among 3 processes; change batch_size"):
        trained(make_task(tmp_path, "distill"), tmp_path / "state")


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs g++ on a CPU")
def test_compiled_layers_learn_what_others_do(tmp_path):
    """In a process of its own, without the checks of types that tests have; by the benchmark, which is tried so too."""
    cases = ["sft,matched", "sft,matched,compile", "sft,matched,recompute,compile,100"]
    command = [sys.executable, ROOT / "benchmarks/train.py", "--architecture", "tiny", "--dtype", "float32"]
    command += ["--tiles", "1", "--pictures", "3", "--answer", "20", "--steps", "6", "--output", tmp_path / "rows.json"]
    command += [word for case in cases for word in ("--case", case)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["TORCHINDUCTOR_VEC_ISA_OK"] = "1"  # takes the CPU's word for what it can do
    subprocess.run(command, check=True, cwd=tmp_path, env=environment, capture_output=True)
    plain, *others = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["case"] for row in others] == cases[1:]
    assert others[1]["micro-batches"] == 3
    assert plain["last loss"] < plain["first loss"]
    for row in others:
        for key in ("first loss", "last loss"):
            assert row[key] == pytest.approx(plain[key], rel=1e-4)
