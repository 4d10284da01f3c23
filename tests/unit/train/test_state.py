"""States of runs, whole and in shards; those of two processes are in test_sharded.py."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fcotvl.train.state import LOG, TENSORS, StateWriter, load_state, save_state


def trained(steps=2):
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    parameters = dict(module.named_parameters())
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.1)
    for _ in range(steps):
        module(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    return module, parameters, optimizer


def test_a_state_comes_back_whole(tmp_path):
    module, parameters, optimizer = trained()
    rows = [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 1 / 3}]
    save_state(tmp_path, parameters, optimizer, 2, rows)
    fresh, own, restored = trained(steps=0)
    assert load_state(tmp_path, own, restored) == (2, rows)
    torch.testing.assert_close(fresh.weight, module.weight, rtol=0, atol=0)
    for name, parameter in own.items():
        for key, value in optimizer.state[parameters[name]].items():
            torch.testing.assert_close(restored.state[parameter][key], value, rtol=0, atol=0)


def test_a_log_ahead_of_its_tensors_is_cut(tmp_path):
    """As a kill between the two writes leaves it."""
    _, parameters, optimizer = trained()
    save_state(tmp_path, parameters, optimizer, 2, [{"step": 2}])
    (tmp_path / LOG).write_text('[{"step": 2}, {"step": 3}]')
    assert load_state(tmp_path, parameters, optimizer) == (2, [{"step": 2}])


def test_without_a_state_a_run_starts_at_the_beginning(tmp_path):
    _, parameters, optimizer = trained(steps=0)
    assert load_state(tmp_path, parameters, optimizer) == (0, [])


def test_a_state_is_that_of_its_step_however_far_training_is(tmp_path):
    module, parameters, optimizer = trained()
    expected = module.weight.detach().clone()
    with StateWriter(tmp_path) as writer:
        writer.save(parameters, optimizer, 2, rows := [{"step": 2}])
        rows.append({"step": 3})
        with torch.no_grad():
            module.weight.zero_()
    assert load_state(tmp_path, parameters, optimizer) == (2, [{"step": 2}])
    assert torch.equal(module.weight, expected)


def shards(folder, step, ranks, count=2):
    """Write the shards of a state as processes do that hold some rows each; returns the weight."""
    module, parameters, optimizer = trained(step)
    save_state(folder / "whole", parameters, optimizer, step, [{"step": step}])
    tensors = load_file(folder / "whole" / TENSORS)
    for rank in ranks:
        own = {key: value.chunk(count)[rank] if value.ndim else value for key, value in tensors.items()}
        save_file(own, folder / f"state-{step}-{rank}-of-{count}.safetensors", {"step": str(step)})
    (folder / LOG).write_text((folder / "whole" / LOG).read_text())
    return module.weight


def test_a_state_is_there_once_all_of_its_shards_are(tmp_path):
    shards(tmp_path, 1, (0, 1))
    shards(tmp_path, 2, (1,))
    fresh, own, optimizer = trained(steps=0)
    step, _ = load_state(tmp_path, own, optimizer)
    assert step == 1
    torch.testing.assert_close(fresh.weight, trained(1)[0].weight, rtol=0, atol=0)
    assert optimizer.state[fresh.weight]["exp_avg"].any()
    names = {path.name for path in tmp_path.glob("state*")}
    assert names == {f"state-1-{rank}-of-2.safetensors" for rank in (0, 1)}  # what was half there is gone


@pytest.mark.parametrize("first", [0, 1])
def test_the_process_that_writes_last_removes_older_states(tmp_path, first):
    _, parameters, optimizer = trained()
    shards(tmp_path, 1, (0, 1))
    for rank in (first, 1 - first):
        assert len(list(tmp_path.glob("state-1-*"))) == 2
        with StateWriter(tmp_path, rank=rank, count=2) as writer:
            writer.save(parameters, optimizer, 2, [])
    assert {path.name for path in tmp_path.glob("state*")} == {f"state-2-{rank}-of-2.safetensors" for rank in (0, 1)}


def test_what_prevents_writing_is_raised(tmp_path):
    _, parameters, optimizer = trained()
    (tmp_path / "file").touch()
    writer = StateWriter(tmp_path / "file")
    writer.save(parameters, optimizer, 2, [])
    with pytest.raises(OSError, match="file"):
        writer.wait()
    with pytest.raises(OSError, match="file"), StateWriter(tmp_path / "file") as writer:
        writer.save(parameters, optimizer, 2, [])
