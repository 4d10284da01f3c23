"""On an accelerator, whichever there is, a step computes what it does on a CPU."""

import os

import pytest
import torch
from torch.nn import functional

from fcotvl import launcher
from fcotvl.core.config import OptimParams
from fcotvl.inference.generate import Decoding, choose
from fcotvl.train import loop
from fcotvl.train.layers import prepare_layers
from fcotvl.train.loop import make_accelerator
from tests.unit.train.test_micro_batches import make_task, trained

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.accelerator.is_available(), reason="no accelerator here")]
os.environ |= launcher.DETERMINISTIC  # read when libraries are first used


def gradients(folder, stage, compressor, device, dtype=None):
    task = make_task(folder, stage, compressor=compressor)
    prepare_layers(task.objective, OptimParams(steps=1, lr=0.1))
    batch = task.collate(*task.sample_items(range(1, 2), []))
    objective = task.objective.to(device)
    with torch.autocast(torch.device(device).type, dtype=dtype, enabled=dtype is not None):
        sums = objective(batch.to(torch.device(device)))
    sums["loss"].sum().backward()
    named = objective.named_parameters()
    return sums["loss"].detach().cpu(), {n: p.grad.cpu() for n, p in named if p.grad is not None}


@pytest.mark.parametrize("stage", ["distill", "sft"])
@pytest.mark.parametrize("compressor", ["cnn", "qformer", "adaptive", "nested"])
def test_a_step_has_the_losses_and_gradients_of_a_cpu(tmp_path, stage, compressor):
    device = str(make_accelerator("float32").device)
    expected, slopes = gradients(tmp_path / "cpu", stage, compressor, "cpu")
    found, others = gradients(tmp_path / "device", stage, compressor, device)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    largest = max(slope.abs().max().item() for slope in slopes.values())
    for name, slope in slopes.items():  # a key's bias has a gradient of zero, but for rounding
        torch.testing.assert_close(others[name], slope, rtol=1e-2, atol=1e-3 * largest, msg=name)


@pytest.mark.parametrize("stage", ["distill", "sft"])
def test_mixed_precision_has_finite_gradients(tmp_path, stage):
    device = str(make_accelerator("float32").device)
    loss, slopes = gradients(tmp_path, stage, "cnn", device, torch.bfloat16)
    assert loss.isfinite().all()
    assert all(slope.isfinite().all() for slope in slopes.values())


X = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
OPERATIONS = {
    "masked_scatter": lambda x: x.masked_scatter(X.to(x.device) > 0, 2 * x.flatten()),
    "index_add": lambda x: torch.zeros_like(x).index_add(0, torch.tensor([0, 2, 2, 1], device=x.device), x[:4]),
    "index_put": lambda x: x[torch.tensor([0, 2, 2], device=x.device), torch.tensor([1, 3, 3], device=x.device)],
    "scatter_add": lambda x: x.scatter_add(1, torch.zeros(8, 4, dtype=torch.long, device=x.device), x[:, :4]),
    "gather": lambda x: x.gather(1, torch.tensor([[0, 0, 3]], device=x.device).expand(8, -1)),
    "embedding": lambda x: functional.embedding(torch.tensor([1, 1, 5], device=x.device), x),
    "searchsorted": lambda x: torch.searchsorted(x[0].sort().values, x[1]),
    "conv1d": lambda x: functional.conv1d(x[None], x[:, :, None].expand(8, 8, 2).contiguous(), stride=2),
    "attention": lambda x: functional.scaled_dot_product_attention(
        *[x[None, None]] * 3, attn_mask=torch.ones(8, 8, dtype=torch.bool, device=x.device).tril()
    ),
    "cross_entropy": lambda x: functional.cross_entropy(x, torch.arange(8, device=x.device), reduction="none"),
    "sampling": lambda x: choose(x, Decoding(1, temperature=1.0, top_k=4), torch.linspace(0, 0.9, 8)),
}


def computed(run, x):
    """What an operation gives, and the gradient of its sum of squares if it has one."""
    x = x.clone().requires_grad_()
    y = run(x)
    if not y.requires_grad:
        return [y.cpu()]
    y.float().square().sum().backward()
    return [y.detach().cpu(), x.grad.cpu()]


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_that_the_project_needs_are_those_of_a_cpu(name, dtype, tolerance, deterministic):
    run, x = OPERATIONS[name], X.to(dtype)
    device = make_accelerator("float32").device
    expected = computed(run, x)
    torch.use_deterministic_algorithms(deterministic)
    try:
        found, again = (computed(run, x.to(device)) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))
    if deterministic:
        torch.testing.assert_close(again, found, rtol=0, atol=0)


@pytest.mark.parametrize("stage", ["distill", "sft"])
def test_in_deterministic_mode_a_step_has_the_same_bytes_again(tmp_path, stage):
    device = str(make_accelerator("float32").device)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (gradients(tmp_path / name, stage, "qformer", device, torch.bfloat16) for name in "ab")
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_goes_on_from_the_state_of_a_fused_optimizer(tmp_path, optimizer, monkeypatch):
    """Which counts its steps on the accelerator."""

    def stop(step):
        if step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    stopped, rest, whole = (make_task(tmp_path / name, "sft") for name in ("stopped", "rest", "whole"))
    object.__setattr__(stopped, "on_step_end", stop)
    with pytest.raises(KeyboardInterrupt):
        trained(stopped, tmp_path / "state", optimizer=optimizer)
    found, _ = trained(rest, tmp_path / "state", optimizer=optimizer)
    expected, _ = trained(whole, tmp_path / "other", optimizer=optimizer)
    assert found == pytest.approx(expected, rel=1e-3)
