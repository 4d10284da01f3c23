"""The axioms that define Shapley values, for any game."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcotvl.merge.shapley import coalitions, shapley_values

PLAYERS = "abcd"
SETS = list(coalitions(PLAYERS))


@st.composite
def games(draw):
    worth = st.floats(-10, 10, allow_subnormal=False)
    scores = draw(st.lists(worth, min_size=len(SETS), max_size=len(SETS)))
    return dict(zip(SETS, scores, strict=True))


def close(values):
    return pytest.approx(values, abs=1e-9)


@given(games())
def test_efficiency(utility):
    """The values share out exactly what everyone earns together."""
    gain = utility[frozenset(PLAYERS)] - utility[frozenset()]
    assert sum(shapley_values(utility).values()) == close(gain)


@given(games())
def test_symmetry(utility):
    """Two players who can stand in for each other are worth the same."""
    swap = str.maketrans("ab", "ba")
    turned = {
        members: utility[members] + utility[frozenset(name.translate(swap) for name in members)] for members in SETS
    }
    values = shapley_values(turned)
    assert values["a"] == close(values["b"])


@given(games(), st.floats(-10, 10))
def test_dummy(utility, own):
    """A player who adds the same to every coalition is worth just that."""
    with_dummy = {members: utility[members - {"d"}] + own * ("d" in members) for members in SETS}
    assert shapley_values(with_dummy)["d"] == close(own)


@given(games(), games(), st.floats(-3, 3))
def test_linearity(utility, other, factor):
    mixed = {members: utility[members] + factor * other[members] for members in SETS}
    one, two = shapley_values(utility), shapley_values(other)
    assert shapley_values(mixed) == close({p: one[p] + factor * two[p] for p in PLAYERS})


@given(games(), st.floats(-5, 5))
def test_another_start_shifts_all_values_alike(utility, shift):
    """Adding d to the utility of the empty coalition takes d / n from every value."""
    moved = utility | {frozenset(): utility[frozenset()] + shift}
    before, after = shapley_values(utility), shapley_values(moved)
    assert after == close({player: before[player] - shift / 4 for player in PLAYERS})
