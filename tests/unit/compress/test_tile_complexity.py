"""Complexity by hand, and the error of an empty corpus; laws are in tests/property/compress."""

from __future__ import annotations

import numpy as np
import pytest

from fcotvl.compress.tile_complexity import calibrate, mean_removed_ratio, tile_complexity
from fcotvl.core.errors import DataError


def tile(rows):
    return np.broadcast_to(np.asarray(rows, dtype=np.float32), (3, len(rows), len(rows[0]))).copy()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[5, 5], [5, 5]], 0.0),
        ([[0, 2], [2, 0]], 2.0),
        ([[0, 1], [0, 1]], 0.5),  # stripes: neighbours differ in one direction of two
        ([[0, 1, 0], [0, 1, 0]], 4 / 7),  # 4 pairs to the right differ by 1, 3 downwards by 0
    ],
)
def test_complexity_is_the_mean_difference_of_neighbours(rows, expected):
    assert tile_complexity(tile(rows)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ratio", "ratios", "low", "high"), [(0.5, (0.25, 0.75), 3.0, 4.0), (0.75, (0.5, 0.875), 4.0, 5.0)]
)
def test_as_many_tiles_as_the_budget_wants_lie_below_the_threshold(ratio, ratios, low, high):
    """Of the six complexities 1 to 6, three or four lose more."""
    threshold = calibrate([6.0, 1.0, 5.0, 2.0, 4.0, 3.0], ratio, ratios)
    assert low < threshold < high
    assert mean_removed_ratio([6.0, 1.0, 5.0, 2.0, 4.0, 3.0], threshold, ratios) == pytest.approx(ratio)


def test_a_corpus_without_a_tile_is_one_line():
    with pytest.raises(DataError, match="no tile to calibrate"):
        calibrate([], 0.5, (0.25, 0.75))
