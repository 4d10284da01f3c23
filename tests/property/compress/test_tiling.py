"""Tiling agrees with transformers' port of it, and the thumbnail rule holds, for any size."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

from fcotvl.compress.tiling import split_into_tiles
from fcotvl.core.geometry import best_grid, count_tiles

SIDES = st.integers(1, 6000)


@given(SIDES, SIDES, st.sampled_from([1, 6, 12, 18, 24, 40]), st.sampled_from([224, 448]))
def test_the_grid_is_that_of_transformers(width, height, cap, tile):
    theirs = get_optimal_tiled_canvas((height, width), (tile, tile), 1, cap)
    assert best_grid(width, height, tile_size=tile, max_tiles=cap) == theirs


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 12), st.integers(0, 9))
def test_tiles_are_the_resized_picture_and_a_thumbnail_iff_several(width, height, cap, seed):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    tiles = split_into_tiles(picture, tile_size=16, max_tiles=cap)
    columns, rows = best_grid(width, height, tile_size=16, max_tiles=cap)
    assert len(tiles) == count_tiles(width, height, tile_size=16, max_tiles=cap)
    assert len(tiles) == columns * rows + (columns * rows > 1)
    assert {tile.size for tile in tiles} == {(16, 16)}
    grid = [np.hstack(tiles[r * columns : (r + 1) * columns]) for r in range(rows)]
    whole = picture.resize((16 * columns, 16 * rows), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(np.vstack(grid), whole)
    if len(tiles) > 1:
        thumbnail = picture.resize((16, 16), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(tiles[-1], thumbnail)
