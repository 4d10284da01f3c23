"""Two rates in one batch: each tile is compressed as it would be alone at its own."""

from __future__ import annotations

import pytest
import torch

from fcotvl.compress import compressors
from fcotvl.core.errors import ParamsError
from fcotvl.core.geometry import compressed


def build(ratio=0.5, **options):
    return compressors.build("adaptive", width=12, tokens=64, ratio=ratio, **options)


def tiles(count=4):
    return torch.randn(count, 64, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("ratio", compressors.ratios("adaptive"))
def test_each_tile_starts_as_the_average_of_its_own_rate(ratio):
    ratios = compressors.tile_ratios("adaptive", ratio)
    chosen = [ratios[k] for k in (1, 0, 0, 1)]
    outputs = build(ratio)(tiles(), [compressed(64, each) for each in chosen])
    for tile, each, output in zip(tiles(), chosen, outputs, strict=True):
        pool = compressors.build("pool", width=12, tokens=64, ratio=each)
        torch.testing.assert_close(output, pool(tile[None])[0])


def test_the_rates_are_two_around_the_budget():
    for ratio in compressors.ratios("adaptive"):
        low, high = compressors.tile_ratios("adaptive", ratio)
        assert low < ratio < high
    assert compressors.tile_ratios("cnn", 0.5) == (0.5,)


def test_a_rate_that_no_tile_takes_has_a_gradient_of_zero():
    """Processes that share a step wait for each other's gradients of every parameter."""
    compress = build()
    torch.cat(compress(tiles(), [48, 48, 48, 48])).square().sum().backward()
    taken, idle = compress.rates
    assert taken.weight.grad.any()
    assert not idle.weight.grad.any()


@pytest.mark.parametrize("counts", [[48, 16], [48, 16, 32, 16]])
def test_other_numbers_of_tokens_are_refused(counts):
    with pytest.raises(ValueError, match="4 tiles need 48 or 16 tokens each, but"):
        build()(tiles(), counts)


def test_a_ratio_between_no_two_rates_is_one_line():
    with pytest.raises(ParamsError, match=r"'adaptive' has no ratio 0\.875; choose one of 0\.5"):
        build(0.875)


@pytest.mark.parametrize("threshold", ["0.1", True])
def test_a_threshold_must_be_a_number(threshold):
    with pytest.raises(ParamsError, match="is not a number"):
        build(threshold=threshold)
