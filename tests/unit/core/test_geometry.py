"""Token counts, from the paper's and InternVL2's own numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcotvl.core import geometry


@pytest.mark.parametrize(("ratio", "left"), [(0.0, 256), (0.25, 192), (0.5, 128), (0.75, 64), (0.875, 32)])
def test_a_tile_of_internvl2_keeps(ratio, left):
    assert geometry.tokens_per_tile(448, 14, 2) == 256
    assert geometry.compressed(256, ratio) == left


@given(st.sampled_from(geometry.RATIOS), st.integers(1, 64))
def test_the_share_removed_is_the_ratio(ratio, groups):
    size, kept = geometry.group(ratio)
    tokens = size * groups
    assert geometry.compressed(tokens, ratio) == tokens * (1 - ratio) == kept * groups


@pytest.mark.parametrize(
    ("ratio", "ratios", "shares"),
    [(0.5, (0.5,), (1,)), (0.5, (0.25, 0.75), (1 / 2, 1 / 2)), (0.75, (0.5, 0.875), (1 / 3, 2 / 3))],
)
def test_shares_of_tiles_have_the_mean_ratio(ratio, ratios, shares):
    assert geometry.tile_shares(ratio, ratios) == pytest.approx(shares)


def test_what_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="groups of 8"):
        geometry.compressed(12, 0.875)
    with pytest.raises(ValueError, match="450 px"):
        geometry.tokens_per_tile(450, 14, 2)
    with pytest.raises(ValueError, match=r"0\.6"):
        geometry.group(0.6)
