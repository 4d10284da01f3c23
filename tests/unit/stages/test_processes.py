"""Two processes share the questions of a stage, and write the bytes of one; a run that is killed goes on."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import psutil
import pytest
import torch

from fcotvl.compress.checkpoints import load_teacher, make_student, read_student_tensors, save_student_tensors
from fcotvl.core import config
from fcotvl.core.io import LOCK
from fcotvl.core.shards import write_shards
from fcotvl.data.lazy_records import Request
from fcotvl.data.sources.rendered import read
from fcotvl.inference.generate import sample
from fcotvl.stages import distill, merge, predict, rscot, sft
from fcotvl.train.rscot import write_rationales
from tests.support.imports import ROOT

TEACHER = ROOT / "teachers/tiny"
SCALE = """
title: enough questions for several windows
model: {architecture: tiny, threads: 1}
prompts: {direct_tokens: 8, cot_tokens: 60}
train_teacher: {}
distill: {steps: 2, batch_size: 4, lr: 0.001}
rscot: {questions: 40, batch_size: 8}
sft: {steps: 2, batch_size: 4, lr: 0.001, checkpoints: 2, reweigh: 1}
merge: {questions: 24}
evaluate: {batch_size: 1}
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Pages that the bundled teacher can read, and two checkpoints of a student."""
    folder = tmp_path_factory.mktemp("inputs")
    for split in ("align", "instruct", "val", "test"):
        lazy = islice(read(Request(raw=folder, split=split, seed=0)), 12)
        records = (one.load(split=split, licence="CC0-1.0", max_pixels=10**8)[0] for one in lazy)
        write_shards(folder / "corpus" / split, records, shard_size=5)
    teacher = load_teacher(TEACHER)
    student = make_student(teacher, compressor="cnn", ratio=0.5, seed=0)
    save_student_tensors(student, folder / "student.safetensors", stage="distill")
    write_rationales(folder / "rationales.parquet", [])
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
        (tmp_path / "benchmarks" / name).symlink_to(inputs.corpus / "test")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def flags(stage, inputs, out):
    """Keywords of a stage's ``run`` whose files go to ``out``."""
    corpus, student = {"corpus": inputs.corpus}, {"student": inputs.folder / "student.safetensors"}
    given = {
        "distill": {**corpus, "student": out / "student.safetensors", "losses": out / "distill.csv"},
        "rscot": {**corpus, "rationales": out / "rationales.parquet", "acceptance": out / "acceptance.csv"},
        "sft": {**corpus, **student, "rationales": inputs.folder / "rationales.parquet", "losses": out / "sft.csv"}
        | {"checkpoints": out / "checkpoints", "sampling": out / "sampling.csv"},
        "predict": {**student, "benchmarks": Path("benchmarks"), "predictions": out / "predictions.parquet"},
        "merge": {**corpus, **student, "checkpoints": inputs.folder / "checkpoints", "merged": out / "merged"}
        | {"coalitions": out / "coalitions.csv", "weights": out / "weights.json"},
    }
    return {"teacher": TEACHER, **given[stage]}


def command(stage, inputs, out):
    options = [part for name, path in flags(stage, inputs, out).items() for part in (f"--{name}", str(path))]
    return [sys.executable, "-m", "fcotvl", stage, "--scale", "pair", *options]


def launch_two(strategy="ddp"):
    """From here on, the command starts two processes."""
    Path("workflow/scales/pair.yaml").write_text(f"{SCALE}launch: {{processes: 2, strategy: {strategy}}}\n")


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}


def written(out):
    return {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def run_alone(stage, inputs, out):
    study = config.load(scale="pair")
    module = {"distill": distill, "rscot": rscot, "sft": sft, "predict": predict, "merge": merge}[stage]
    module.run(study, **flags(stage, inputs, out))
    return written(out)


@pytest.mark.parametrize("stage", ["rscot", "predict", "merge"])
def test_two_processes_write_the_bytes_of_one(project, inputs, stage):
    alone = run_alone(stage, inputs, Path("alone"))
    launch_two()
    done = subprocess.run(
        command(stage, inputs, Path("two")), env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert written(Path("two")) == alone
    assert not list(Path(".scratch").iterdir())


@pytest.mark.parametrize(("stage", "strategy"), [("distill", "ddp"), ("sft", "fsdp")])
def test_two_processes_train_what_one_does(project, inputs, stage, strategy):
    run_alone(stage, inputs, Path("alone"))
    done = run_two(stage, inputs, strategy)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("step 1 of 2") == 1
    alone, two = (pd.read_csv(Path(out, f"{stage}.csv")) for out in ("alone", "out"))
    assert two["loss"].to_list() == pytest.approx(alone["loss"].to_list(), rel=1e-5)
    files = [path.relative_to("alone") for path in Path("alone").rglob("*.safetensors")]
    assert len(files) == {"distill": 1, "sft": 2}[stage]
    for file in files:
        (ours, header), (theirs, expected) = (read_student_tensors(out / file) for out in (Path("out"), Path("alone")))
        assert header == expected
        assert {name: one.shape for name, one in ours.items()} == {name: one.shape for name, one in theirs.items()}
    assert not list(Path(".scratch").iterdir())


def test_the_teacher_reads_these_pages(project, inputs):
    """So that the bytes above are not those of an empty table."""
    run_alone("rscot", inputs, Path("alone"))
    assert len(Path("alone/acceptance.csv").read_text().splitlines()) > 3
    assert Path("alone/rationales.parquet").stat().st_size > 3000


def windows():
    """Those that are finished: not the scratch folders beside them, which may go while this looks."""
    return list(Path(".scratch").glob("*/0*.json"))


def test_a_run_of_two_that_is_killed_goes_on_from_its_windows(project, inputs, monkeypatch):
    alone = run_alone("rscot", inputs, Path("alone"))
    launch_two()
    started = subprocess.Popen(command("rscot", inputs, Path("out")), env=environment(), stderr=subprocess.DEVNULL)
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


def run_two(stage, inputs, strategy="ddp", **changed):
    launch_two(strategy)
    line = command(stage, inputs, Path("out"))
    for name, value in changed.items():
        line[line.index(f"--{name}") + 1] = str(value)
    return subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)


def test_what_the_user_can_correct_is_one_line_of_all_processes(project, inputs):
    done = run_two("rscot", inputs, teacher=inputs.folder)
    assert done.returncode == 2
    assert re.fullmatch(r"rscot: .*config.json.*\n", done.stderr), done.stderr
    (line,) = Path("logs/rscot.log").read_text().splitlines()
    assert line.endswith(done.stderr.strip())


def test_a_wrong_param_is_one_line_before_anything_is_started(project, inputs):
    launch_two()
    scale = Path("workflow/scales/pair.yaml")
    scale.write_text(scale.read_text().replace("sft: {steps: 2, batch_size: 4", "sft: {steps: 2, batch_size: 3"))
    line = command("rscot", inputs, Path("out"))
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    message = "sft.batch_size is 3, which does not divide among 2 processes (launch.processes)"
    assert done.stderr == f"rscot: workflow/scales/pair.yaml: {message}\n"


def started_rscot(inputs):
    """A run of two processes that has kept its first window, with the ids of its processes."""
    launch_two()
    line = command("rscot", inputs, Path("out"))
    launcher = subprocess.Popen(line, env=environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not windows() and launcher.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return launcher, [child.pid for child in psutil.Process(launcher.pid).children()]


def test_a_process_that_is_killed_ends_the_run_with_one_line(project, inputs):
    launcher, (_, second) = started_rscot(inputs)
    os.kill(second, signal.SIGKILL)
    _, text = launcher.communicate(timeout=120)
    assert launcher.returncode == 128 + signal.SIGKILL
    assert re.fullmatch(r"rscot: process [12] of 2 was ended by SIGKILL.*run it again.*", text.splitlines()[-1])
    assert "Traceback" not in text


def test_a_run_that_is_told_to_end_takes_its_processes_along(project, inputs):
    launcher, others = started_rscot(inputs)
    launcher.terminate()
    _, text = launcher.communicate(timeout=120)
    assert launcher.returncode == -signal.SIGTERM
    assert "Traceback" not in text
    assert not any(map(psutil.pid_exists, others))
