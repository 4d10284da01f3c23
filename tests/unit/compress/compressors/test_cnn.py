"""The paper's compressor starts as pooling; with PyTorch's start it does not."""

from __future__ import annotations

import pytest
import torch

from fcotvl.compress import compressors

RATIOS = compressors.ratios("cnn")


def pair(first, second, ratio):
    torch.manual_seed(0)
    tiles = torch.randn(2, 64, 12)
    return [compressors.build(name, width=12, tokens=64, ratio=ratio)(tiles) for name in (first, second)]


@pytest.mark.parametrize("ratio", RATIOS)
def test_it_starts_equal_to_pooling(ratio):
    torch.testing.assert_close(*pair("cnn", "pool", ratio))


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_default_start_is_pytorchs_own(ratio):
    learned, pooled = pair("cnn-default", "pool", ratio)
    assert not torch.allclose(learned, pooled, atol=0.1)
    torch.manual_seed(3)
    ours = compressors.build("cnn-default", width=12, tokens=64, ratio=ratio)
    torch.manual_seed(3)
    theirs = torch.nn.Conv1d(12, ours.out_channels, ours.kernel_size, ours.stride)
    assert torch.equal(ours.weight, theirs.weight)


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_run_of_neighbours_alone_decides_its_tokens(ratio):
    """Changing the last run changes the last m tokens and no other."""
    compress = compressors.build("cnn-default", width=12, tokens=64, ratio=ratio)
    tiles = torch.randn(1, 64, 12)
    before = compress(tiles)
    tiles[:, -compress.g :] += 1
    changed = (compress(tiles) != before).any(dim=-1)[0]
    assert changed.nonzero()[:, 0].tolist() == list(range(len(changed) - compress.m, len(changed)))
