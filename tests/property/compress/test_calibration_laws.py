"""The mean budget is met as well as whole tiles allow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcotvl.compress import compressors
from fcotvl.compress.tile_complexity import calibrate, detail, removed

BUDGETS = [(r, compressors.tile_ratios("adaptive", r)) for r in compressors.ratios("adaptive")]
DETAILS = st.floats(0, 10)


@given(st.lists(DETAILS, min_size=1, max_size=40, unique=True), st.sampled_from(BUDGETS))
def test_distinct_tiles_meet_the_budget_to_half_a_tile(details, budget):
    ratio, (low, high) = budget
    found = removed(details, calibrate(details, ratio, (low, high)), (low, high))
    assert abs(found - ratio) <= (high - low) / (2 * len(details)) + 1e-9


@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=1, max_size=30),
    st.sampled_from(BUDGETS),
)
def test_no_other_threshold_does_better_on_equal_tiles(details, budget):
    ratio, ratios = budget
    reached = abs(removed(details, calibrate(details, ratio, ratios), ratios) - ratio)
    for other in (0.0, 0.25, 0.75, 2.0, 4.0):
        assert reached <= abs(removed(details, other, ratios) - ratio) + 1e-9


@given(st.integers(0, 2**32 - 1), st.sampled_from(BUDGETS))
def test_random_tiles_meet_the_budget(seed, budget):
    ratio, (low, high) = budget
    dice = np.random.default_rng(seed)
    strength = dice.uniform(0, 2, size=(12, 1, 1, 1))
    tiles = (strength * dice.standard_normal((12, 3, 8, 8))).astype(np.float32)
    details = [detail(tile) for tile in tiles]
    found = removed(details, calibrate(details, ratio, (low, high)), (low, high))
    assert abs(found - ratio) <= (high - low) / 24 + 1e-9


@given(st.integers(0, 2**32 - 1))
def test_detail_follows_contrast_and_ignores_brightness_and_mirrors(seed):
    tile = np.random.default_rng(seed).standard_normal((3, 8, 8)).astype(np.float32)
    found = detail(tile)
    assert detail(2 * tile) == pytest.approx(2 * found, rel=1e-5)
    assert detail(tile + 1) == pytest.approx(found, rel=1e-4)
    assert detail(tile[:, ::-1]) == pytest.approx(found, rel=1e-6)
