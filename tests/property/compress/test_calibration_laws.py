"""The mean budget is met as well as whole tiles allow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcotvl.compress import compressors
from fcotvl.compress.tile_complexity import calibrate, mean_removed_ratio, tile_complexity

BUDGETS = [(r, compressors.tile_ratios("adaptive", r)) for r in compressors.ratios("adaptive")]
COMPLEXITIES = st.floats(0, 10)


@given(st.lists(COMPLEXITIES, min_size=1, max_size=40, unique=True), st.sampled_from(BUDGETS))
def test_distinct_tiles_meet_the_budget_to_half_a_tile(complexities, budget):
    ratio, (low, high) = budget
    reached = mean_removed_ratio(complexities, calibrate(complexities, ratio, (low, high)), (low, high))
    assert abs(reached - ratio) <= (high - low) / (2 * len(complexities)) + 1e-9


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=1, max_size=30), st.sampled_from(BUDGETS))
def test_no_other_threshold_does_better_on_equal_tiles(complexities, budget):
    ratio, ratios = budget
    reached = abs(mean_removed_ratio(complexities, calibrate(complexities, ratio, ratios), ratios) - ratio)
    for other in (0.0, 0.25, 0.75, 2.0, 4.0):
        assert reached <= abs(mean_removed_ratio(complexities, other, ratios) - ratio) + 1e-9


@given(st.integers(0, 2**32 - 1), st.sampled_from(BUDGETS))
def test_random_tiles_meet_the_budget(seed, budget):
    ratio, (low, high) = budget
    rng = np.random.default_rng(seed)
    strength = rng.uniform(0, 2, size=(12, 1, 1, 1))
    tiles = (strength * rng.standard_normal((12, 3, 8, 8))).astype(np.float32)
    complexities = [tile_complexity(tile) for tile in tiles]
    reached = mean_removed_ratio(complexities, calibrate(complexities, ratio, (low, high)), (low, high))
    assert abs(reached - ratio) <= (high - low) / 24 + 1e-9


@given(st.integers(0, 2**32 - 1))
def test_complexity_follows_contrast_and_ignores_brightness_and_mirrors(seed):
    tile = np.random.default_rng(seed).standard_normal((3, 8, 8)).astype(np.float32)
    complexity = tile_complexity(tile)
    assert tile_complexity(2 * tile) == pytest.approx(2 * complexity, rel=1e-5)
    assert tile_complexity(tile + 1) == pytest.approx(complexity, rel=1e-4)
    assert tile_complexity(tile[:, ::-1]) == pytest.approx(complexity, rel=1e-6)
