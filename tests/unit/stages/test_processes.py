"""Two processes share the questions of a stage, and write the bytes of one; a run that is killed goes on."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fcotvl.compress.checkpoints import load_teacher, make_student, save_student_tensors
from fcotvl.core import config
from fcotvl.core.io import LOCK
from fcotvl.core.shards import write_shards
from fcotvl.data.lazy_records import Request
from fcotvl.data.sources.rendered import read
from fcotvl.inference.generate import sample
from fcotvl.stages import merge, predict, rscot
from tests.support.imports import ROOT

TEACHER = ROOT / "teachers/tiny"
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
SCALE = """
title: enough questions for several windows
model: {architecture: tiny, threads: 1}
prompts: {direct_tokens: 8, cot_tokens: 60}
train_teacher: {}
distill: {}
rscot: {questions: 40, batch_size: 8}
sft: {}
merge: {questions: 24}
evaluate: {batch_size: 1}
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Pages that the bundled teacher can read, and two checkpoints of a student."""
    folder = tmp_path_factory.mktemp("inputs")
    for split in ("instruct", "val"):
        lazy = islice(read(Request(raw=folder, split=split, seed=0)), 12)
        records = (one.load(split=split, licence="CC0-1.0", max_pixels=10**8)[0] for one in lazy)
        write_shards(folder / "corpus" / split, records, shard_size=5)
    teacher = load_teacher(TEACHER)
    student = make_student(teacher, compressor="cnn", ratio=0.5, seed=0)
    save_student_tensors(student, folder / "student.safetensors", stage="distill")
    (folder / "checkpoints").mkdir()
    for number in range(2):
        torch.manual_seed(number)
        with torch.no_grad():
            for parameter in student.model.compressor.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        save_student_tensors(student, folder / f"checkpoints/step-{number:05d}.safetensors", stage="sft")
    return SimpleNamespace(folder=folder, corpus=folder / "corpus")


@pytest.fixture
def project(tmp_path, inputs, monkeypatch):
    """A folder with the params of the study and a scale of its own."""
    (tmp_path / "workflow/scales").mkdir(parents=True)
    (tmp_path / "workflow/mixes").symlink_to(ROOT / "workflow/mixes")
    (tmp_path / "workflow/scales/pair.yaml").write_text(SCALE)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    for name in config.load(tmp_path / "params.yaml", scale="pair").mix_config.benchmarks:
        (tmp_path / "benchmarks").mkdir(exist_ok=True)
        (tmp_path / "benchmarks" / name).symlink_to(inputs.corpus / "val")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def flags(stage, inputs, out):
    """Keywords of a stage's ``run`` whose files go to ``out``."""
    corpus, student = {"corpus": inputs.corpus}, {"student": inputs.folder / "student.safetensors"}
    given = {
        "rscot": {**corpus, "rationales": out / "rationales.parquet", "acceptance": out / "acceptance.csv"},
        "predict": {**student, "benchmarks": Path("benchmarks"), "predictions": out / "predictions.parquet"},
        "merge": {**corpus, **student, "checkpoints": inputs.folder / "checkpoints", "merged": out / "merged"}
        | {"coalitions": out / "coalitions.csv", "weights": out / "weights.json"},
    }
    return {"teacher": TEACHER, **given[stage]}


def command(stage, inputs, out, *launcher):
    options = [part for name, path in flags(stage, inputs, out).items() for part in (f"--{name}", str(path))]
    return [sys.executable, *launcher, "-m", "fcotvl", stage, "--scale", "pair", *options]


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}


def written(out):
    return {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def run_alone(stage, inputs, out):
    study = config.load(scale="pair")
    {"rscot": rscot, "predict": predict, "merge": merge}[stage].run(study, **flags(stage, inputs, out))
    return written(out)


@pytest.mark.parametrize("stage", ["rscot", "predict", "merge"])
def test_two_processes_write_the_bytes_of_one(project, inputs, stage):
    alone = run_alone(stage, inputs, Path("alone"))
    done = subprocess.run(
        command(stage, inputs, Path("two"), *TWO), env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert written(Path("two")) == alone
    assert not list(Path(".scratch").iterdir())


def test_the_teacher_reads_these_pages(project, inputs):
    """So that the bytes above are not those of an empty table."""
    run_alone("rscot", inputs, Path("alone"))
    assert len(Path("alone/acceptance.csv").read_text().splitlines()) > 3
    assert Path("alone/rationales.parquet").stat().st_size > 3000


def windows():
    return list(Path(".scratch").rglob("0*.json"))


def test_a_run_of_two_that_is_killed_goes_on_from_its_windows(project, inputs, monkeypatch):
    alone = run_alone("rscot", inputs, Path("alone"))
    started = subprocess.Popen(
        command("rscot", inputs, Path("out"), *TWO), env=environment(), stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not windows() and started.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    started.kill()  # the launcher alone: its processes must end by themselves
    started.wait()
    (scratch,) = Path(".scratch").iterdir()
    with (scratch / LOCK).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
    kept = len(windows())
    assert 0 < kept < 5
    assert not Path("out").exists()
    asked = []
    monkeypatch.setattr(rscot, "sample", lambda *args, **named: asked.append(args) or sample(*args, **named))
    assert run_alone("rscot", inputs, Path("out")) == alone
    assert len(asked) == 5 - kept
