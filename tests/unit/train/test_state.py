import torch
from torch import nn

from fcotvl.train.state import LOG, load_state, save_state


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
