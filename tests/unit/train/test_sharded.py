"""Two processes share weights, gradients and optimizer (FSDP2), and learn what one process does."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fcotvl.compress.checkpoints import read_student_tensors
from fcotvl.core.config import LossParams, OptimParams
from fcotvl.evaluate.memory import training_memory
from fcotvl.train import loop
from tests.support.imports import ROOT
from tests.unit.train.test_micro_batches import make_task, trained

SCRIPT = Path(__file__).with_name("sharded_runs.py")
CASES = [(stage, optimizer) for stage in ("distill", "sft") for optimizer in ("adamw", "muon")]
COMPRESSORS = {"distill-muon": "adaptive"}
"""Of cases that do not train ``cnn``: kernels of ``adaptive`` make several tokens, and Muon's step takes them apart."""


def two_processes(folder, what, **variables):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(
        [*launcher, SCRIPT, folder, what], env=environment, cwd=ROOT, timeout=500, capture_output=True, check=False
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All runs of two processes; the last is killed, and its state is copied before it goes on."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "SAVE_SECONDS", 0.0)
        task = make_task(folder / "corpus", "distill")

        def stop(step):
            if step == 2:
                raise KeyboardInterrupt

        object.__setattr__(task, "on_step_end", stop)
        with pytest.raises(KeyboardInterrupt):
            trained(task, folder / "one-then-two")
    first = two_processes(folder, "all", CUDA_VISIBLE_DEVICES="")
    assert b"SIGKILL" in first.stderr, first.stderr.decode()
    shutil.copytree(folder / "killed", folder / "two-then-one")
    second = two_processes(folder, "rest", CUDA_VISIBLE_DEVICES="")
    assert second.returncode == 0, second.stderr.decode()
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Losses of one process, by stage and optimizer."""
    folder, found = tmp_path_factory.mktemp("plain"), {}
    for stage, optimizer in CASES:
        name = f"{stage}-{optimizer}"
        task = make_task(folder / name, stage, compressor=COMPRESSORS.get(name, "cnn"))
        found[name], _ = trained(task, folder / f"{name}-state", optimizer=optimizer)
    return found


def result(runs, name):
    return json.loads((runs / f"{name}.json").read_text())


def student(runs, name):
    return (runs / f"{name}.safetensors").read_bytes()


@pytest.mark.parametrize(("stage", "optimizer"), CASES)
def test_the_losses_are_those_of_one_process(runs, plain, stage, optimizer):
    case = f"{stage}-{optimizer}"
    assert result(runs, case)["losses"] == pytest.approx(plain[case], rel=1e-5)


def test_a_published_student_is_whole(runs, tmp_path):
    _, weights = trained(make_task(tmp_path / "corpus", "sft"), tmp_path / "state")
    tensors, _ = read_student_tensors(runs / "sft-adamw.safetensors")
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor, weights[f"student.{name}"].detach(), rtol=1e-3, atol=1e-4, msg=name)


def test_each_process_holds_the_share_that_is_estimated(runs):
    student = make_task(runs / "config-corpus", "sft").objective.student
    optim = OptimParams(steps=1, lr=0.1)
    estimate = training_memory("sft", student.config, optim, processes=2, strategy="fsdp")
    held = [json.loads((runs / f"held-{rank}.json").read_text()) for rank in (0, 1)]
    for kind in ("weights", "gradients"):
        assert sum(one[kind] for one in held) == pytest.approx(2 * getattr(estimate, kind), abs=2)
        assert max(one[kind] for one in held) < 1.05 * getattr(estimate, kind)
    assert all(one["types"] == ["torch.float32"] for one in held)
    files = [runs / "mixed" / f"state-3-{rank}-of-2.safetensors" for rank in (0, 1)]
    moments = [sum(t.nbytes for key, t in load_file(file).items() if key.startswith("exp_avg")) for file in files]
    assert sum(moments) == pytest.approx(2 * estimate.optimizer, abs=2)
    assert max(moments) < 1.05 * estimate.optimizer


def test_mixed_precision_has_the_losses_of_float32_but_for_rounding(runs, tmp_path):
    task = make_task(tmp_path / "corpus", "sft")
    task.objective.params = LossParams()
    expected, _ = trained(task, tmp_path / "state")
    assert result(runs, "mixed")["losses"] == pytest.approx(expected, rel=0.02)


def test_a_run_that_was_stopped_ends_in_the_same_bytes(runs):
    assert 0 < len(result(runs, "stopped")["steps"]) < 3
    assert student(runs, "stopped") == student(runs, "sft-adamw")


def test_a_run_that_was_killed_ends_in_the_same_bytes(runs):
    assert 0 < len(result(runs, "killed")["steps"]) < 3
    assert student(runs, "killed") == student(runs, "sft-muon")


def test_any_number_of_processes_goes_on_from_a_state(runs, plain, tmp_path):
    assert result(runs, "one-then-two")["steps"] == [2, 3]
    assert result(runs, "one-then-two")["losses"] == pytest.approx(plain["distill-adamw"], rel=1e-5)
    task, seen = make_task(tmp_path, "sft"), []
    object.__setattr__(task, "on_step_end", seen.append)
    losses, _ = trained(task, runs / "two-then-one", optimizer="muon")
    assert 0 < len(seen) < 3
    assert losses == pytest.approx(plain["sft-muon"], rel=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(torch.accelerator.device_count() < 2, reason="fewer than two accelerators here")
def test_two_accelerators_have_the_losses_of_a_cpu(plain, tmp_path):
    done = two_processes(tmp_path, "all")
    assert b"SIGKILL" in done.stderr, done.stderr.decode()
    for case, losses in plain.items():
        assert result(tmp_path, case)["losses"] == pytest.approx(losses, rel=1e-2)
