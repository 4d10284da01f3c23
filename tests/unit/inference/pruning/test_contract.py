"""What every training-free baseline in the folder must do."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from fcotvl.compress.checkpoints import processor_for
from fcotvl.core.errors import ParamsError
from fcotvl.evaluate.cost import cost
from fcotvl.inference import pruning
from fcotvl.inference.generate import generate
from tests.support import models
from tests.unit.inference.test_generate import queries

CASES = [(name, ratio) for name in pruning.available() for ratio in (0.5, 0.75)]


def reply(system, asked):
    processor = processor_for(models.processor(), system.model.config)
    return generate(system.model, processor, asked, max_new_tokens=6, pruning=system.pruning)


@pytest.mark.parametrize(("name", "ratio"), CASES)
def test_a_batch_replies_as_one_by_one_and_again(name, ratio):
    system = pruning.build(name, models.teacher(), ratio=ratio, layer=2)
    together = reply(system, queries())
    assert together == [reply(system, [query])[0] for query in queries()]
    assert together == reply(pruning.build(name, models.teacher(), ratio=ratio, layer=2), queries())


@pytest.mark.parametrize(("name", "ratio"), CASES)
def test_it_is_not_trained_and_leaves_the_teacher_alone(name, ratio):
    teacher, untouched = models.teacher(), models.teacher().state_dict()
    state = pruning.build(name, teacher, ratio=ratio, layer=2).model.state_dict()
    assert state.keys() == untouched.keys()
    assert all(torch.equal(state[key], untouched[key]) for key in untouched)
    assert all(torch.equal(tensor, untouched[key]) for key, tensor in teacher.state_dict().items())


@pytest.mark.parametrize(("name", "ratio"), CASES)
def test_it_costs_less_than_the_teacher(name, ratio):
    teacher = models.teacher()
    system = pruning.build(name, teacher, ratio=ratio, layer=1)
    ours = cost(system.model.config, tiles=5, text_tokens=9, pruning=system.pruning)
    full = cost(teacher.config, tiles=5, text_tokens=9)
    assert ours.vit + ours.connector + ours.prefill < full.vit + full.connector + full.prefill
    assert ours.kv_bytes < full.kv_bytes


def test_an_unknown_name_suggests_a_close_one():
    with pytest.raises(ParamsError, match="no training-free baseline 'fastvv'; did you mean fastv"):
        pruning.build("fastvv", models.teacher(), ratio=0.5, layer=2)


def test_names_are_sorted_and_read_without_torch():
    code = "import sys; from fcotvl.inference import pruning;print(*pruning.available(), 'torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *names, has_torch = printed.stdout.split()
    assert names == sorted(names)
    assert {"fastv", "random", "untrained-pool"} <= set(names)
    assert has_torch == "False"
