"""Scripts of benchmarks/ that compare: both sides compute the same, and every way is measured."""

import sys
from argparse import Namespace
from importlib import import_module

import pytest
import torch

from tests.support.imports import ROOT

TINY = {"teacher": None, "architecture": "tiny", "layers": 1, "ratio": 0.5, "tiles": 2, "answer": 30, "questions": 3}
TINY |= {"pictures": 3, "together": 2, "steps": 1, "dtype": "float32", "device": "cpu"}


@pytest.fixture
def script(monkeypatch):
    """Imports a script, which may import others beside it."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    before = set(sys.modules)
    yield import_module
    for path in (ROOT / "benchmarks").glob("*.py"):
        if path.stem not in before:
            sys.modules.pop(path.stem, None)


def test_the_two_model_loop_takes_the_step_of_distillation(script):
    distill, args = script("distill"), Namespace(**TINY)
    shipped, two_models = (kind(distill.load(args), args) for kind in (distill.Shipped, distill.TwoModels))
    batch = distill.noise(shipped, args)
    expected, found = two_models.gradients(batch), shipped.gradients(batch)
    assert expected[0] > 1e-4
    assert all(gradient.abs().max() > 0 for gradient in expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
    assert shipped.seconds(batch) > 0
    assert two_models.seconds(batch) > 0


def test_every_way_of_feeding_is_measured(script, monkeypatch, capsys):
    loader = script("loader")
    flags = "--step 0.01 --pictures 2 --size 224 --tile 56 --steps 2 --rounds 1"
    monkeypatch.setattr(sys, "argv", ["loader.py", *flags.split()])
    loader.main()
    lines = capsys.readouterr().out.splitlines()
    ways = {line.split("|")[1].strip(): float(line.split("|")[2]) for line in lines[2:6]}
    assert ways.keys() == {"collated", "0 workers", "1 worker", "2 workers"}
    assert min(ways.values()) > 0
