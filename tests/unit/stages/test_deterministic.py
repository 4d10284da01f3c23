"""``launch.deterministic``: on within the stage, without effect on a CPU's bytes, and one line where it cannot be."""

import logging
import os
from pathlib import Path

import pytest
import torch
import yaml

from fcotvl import launcher
from fcotvl.__main__ import main
from fcotvl.stages import distill
from fcotvl.train import distill as objective
from tests.support import corpora
from tests.support.imports import ROOT


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with params, corpus and teacher; variables, mode and log are as before in the end."""
    (tmp_path / "workflow/scales").mkdir(parents=True)
    (tmp_path / "workflow/mixes").symlink_to(ROOT / "workflow/mixes")
    (tmp_path / "params.yaml").symlink_to(ROOT / "params.yaml")
    corpora.write(tmp_path / "corpus")
    corpora.write_teacher(tmp_path / "teacher")
    monkeypatch.chdir(tmp_path)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", *launcher.DETERMINISTIC):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    logger = logging.getLogger("fcotvl")
    before = logger.handlers, logger.level, logger.propagate
    yield tmp_path
    torch.use_deterministic_algorithms(False)
    logger.handlers, logger.level, logger.propagate = before


def run_distill(name, deterministic):
    """Exit code of the command, and the bytes that it wrote."""
    scale = yaml.safe_load((ROOT / "workflow/scales/smoke.yaml").read_text())
    scale["launch"]["deterministic"] = deterministic
    Path("workflow/scales/own.yaml").write_text(yaml.safe_dump(scale))
    out = Path(name)
    files = {"corpus": "corpus", "teacher": "teacher", "student": out / "student.safetensors", "losses": out / "l.csv"}
    options = [part for flag, path in files.items() for part in (f"--{flag}", str(path))]
    code = main(["distill", "--scale", "own", "--mix", "smoke", *options])
    return code, {path.name: path.read_bytes() for path in out.glob("*")}


def test_a_stage_runs_in_it_and_a_cpu_writes_the_same_bytes(project, monkeypatch):
    modes, train = [], distill.train

    def spied(*args, **kwargs):
        mode = torch.are_deterministic_algorithms_enabled()
        modes.append(mode and {name: os.environ[name] for name in launcher.DETERMINISTIC})
        return train(*args, **kwargs)

    monkeypatch.setattr(distill, "train", spied)
    plain = run_distill("plain", deterministic=False)
    assert plain[0] == 0
    assert plain[1].keys() == {"student.safetensors", "l.csv"}
    assert run_distill("deterministic", deterministic=True) == plain
    assert modes == [False, launcher.DETERMINISTIC]


def test_an_operation_that_cannot_is_one_line(project, monkeypatch, capsys):
    kl = objective.distillation_kl

    def with_put(*args):
        torch.zeros(2).put_(torch.tensor([1]), torch.ones(1))  # has no deterministic kernel on any device
        return kl(*args)

    monkeypatch.setattr(objective, "distillation_kl", with_put)
    assert run_distill("plain", deterministic=False)[0] == 0
    capsys.readouterr()
    assert run_distill("deterministic", deterministic=True) == (2, {})
    assert capsys.readouterr().err.splitlines()[-1] == (
        "distill: put_ has no deterministic implementation on this device; set launch.deterministic to false in the "
        "scale file"
    )
