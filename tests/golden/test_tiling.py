"""Grids that InternVL's own ``dynamic_preprocess`` (InternVL 2410d1db) chose for these sizes."""

from __future__ import annotations

import pytest

from fcotvl.core.geometry import best_grid, count_tiles

CAPS = (6, 12, 18, 24)
VECTORS = {
    (448, 448): ["1,1", "1,1", "1,1", "1,1"],
    (449, 449): ["1,1", "1,1", "1,1", "1,1"],
    (100, 100): ["1,1", "1,1", "1,1", "1,1"],
    (634, 634): ["2,2", "2,2", "2,2", "2,2"],
    (896, 896): ["2,2", "2,2", "2,2", "2,2"],
    (1344, 1344): ["2,2", "3,3", "4,4", "4,4"],
    (2000, 2000): ["2,2", "3,3", "4,4", "4,4"],
    (640, 480): ["3,2", "4,3", "4,3", "4,3"],
    (800, 600): ["3,2", "4,3", "4,3", "4,3"],
    (850, 600): ["3,2", "3,2", "3,2", "3,2"],
    (1700, 2200): ["2,3", "3,4", "3,4", "3,4"],
    (2550, 3300): ["2,3", "3,4", "3,4", "3,4"],
    (1654, 2339): ["2,3", "2,3", "2,3", "4,6"],
    (1600, 400): ["4,1", "4,1", "4,1", "4,1"],
    (400, 1600): ["1,4", "1,4", "1,4", "1,4"],
    (1000, 5000): ["1,5", "1,5", "1,5", "2,10"],
    (1200, 6000): ["1,5", "1,5", "1,5", "2,10"],
    (3000, 1000): ["3,1", "6,2", "6,2", "6,2"],
}
CASES = [
    (size, cap, tuple(map(int, grid.split(","))))
    for size, chosen in VECTORS.items()
    for cap, grid in zip(CAPS, chosen, strict=True)
]


@pytest.mark.parametrize(("size", "cap", "grid"), CASES)
def test_the_grid_is_internvls(size, cap, grid):
    assert best_grid(*size, tile_size=448, max_tiles=cap) == grid


@pytest.mark.parametrize(("cap", "tokens"), [(6, 1792), (12, 3328), (18, 4864), (24, 6400)])
def test_the_largest_prompt_has_internvls_visual_tokens(cap, tokens):
    """256 tokens a tile, a thumbnail beside the full grid."""
    assert count_tiles(448, 448 * cap, tile_size=448, max_tiles=cap) * 256 == tokens
