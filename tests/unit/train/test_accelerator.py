"""On an accelerator, whichever there is, a step computes what it does on a CPU."""

import pytest
import torch

from fcotvl.core.config import OptimParams
from fcotvl.train import loop
from fcotvl.train.layers import prepare_layers
from fcotvl.train.loop import make_accelerator
from tests.unit.train.test_micro_batches import make_task, trained

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.accelerator.is_available(), reason="no accelerator here")]


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
@pytest.mark.parametrize("compressor", ["cnn", "qformer", "adaptive"])
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


@pytest.mark.parametrize(
    "run",
    [
        lambda x: x.masked_scatter(x > 0, x.flatten()),
        lambda x: torch.zeros(4, 8, device=x.device).index_add(0, torch.tensor([0, 2, 2, 1], device=x.device), x[:4]),
        lambda x: torch.searchsorted(x[0].sort().values, x[1]),
        lambda x: torch.nn.functional.conv1d(x[None], x[:, :, None].expand(8, 8, 2).contiguous(), stride=2),
        lambda x: torch.nn.functional.scaled_dot_product_attention(
            *[x[None, None]] * 3, attn_mask=torch.ones(8, 8, dtype=torch.bool, device=x.device).tril()
        ),
    ],
    ids=["masked_scatter", "index_add", "searchsorted", "conv1d", "attention"],
)
def test_operations_that_the_project_needs_are_those_of_a_cpu(run):
    x = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    device = make_accelerator("float32").device
    torch.testing.assert_close(run(x.to(device)).cpu(), run(x), rtol=1e-3, atol=1e-3)


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
