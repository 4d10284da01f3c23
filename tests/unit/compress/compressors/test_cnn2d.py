"""Blocks of the grid, not runs of a row."""

from __future__ import annotations

import pytest
import torch

from fcotvl.compress import compressors


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0.5, [0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 12.5, 14.5]), (0.75, [2.5, 4.5, 10.5, 12.5]), (0.875, [3.5, 11.5])],
)
def test_it_starts_as_the_mean_of_blocks_of_a_4_by_4_grid(ratio, expected):
    compress = compressors.build("cnn2d", width=1, tokens=16, ratio=ratio)
    assert compress(torch.arange(16.0)[None, :, None])[0, :, 0].tolist() == expected


def test_a_tile_that_does_not_divide_into_blocks_is_refused():
    with pytest.raises(ValueError, match="48 visual tokens do not form a grid of 2 x 4 blocks"):
        compressors.build("cnn2d", width=1, tokens=48, ratio=0.875)
