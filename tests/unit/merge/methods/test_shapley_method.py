"""From Shapley values to weights. In an additive game the value of a player is its own worth."""

from math import exp

import pytest

from fcotvl.core.errors import DataError, ParamsError
from fcotvl.merge.methods import Options
from fcotvl.merge.methods.shapley import shapley
from fcotvl.merge.shapley import coalitions


def weights(options=None, **worth):
    utility = {members: 0.5 + sum(worth[m] for m in members) for members in coalitions(worth)}
    return shapley(utility, options or Options())


def test_clip_gives_nothing_to_who_harms():
    assert weights(a=0.3, b=0.1, c=-0.2) == pytest.approx({"a": 0.75, "b": 0.25, "c": 0})


def test_clip_averages_uniformly_with_a_warning_where_nobody_helps(caplog):
    assert weights(a=-0.1, b=-0.3) == {"a": 0.5, "b": 0.5}
    assert "averaged uniformly" in caplog.text


def test_softmax_lets_everyone_take_part():
    found = weights(Options("softmax", tau=0.1), a=0.3, b=0.1)
    assert found["a"] / found["b"] == pytest.approx(exp(2))
    assert weights(Options("softmax", tau=1e-6), a=0.3, b=0.1)["a"] == pytest.approx(1)


def test_sum_subtracts_who_harms():
    found = weights(Options("sum"), a=0.3, b=-0.1)
    assert found == pytest.approx({"a": 1.5, "b": -0.5})


def test_sum_needs_a_gain_to_divide():
    with pytest.raises(DataError, match=r"gain -0\.2000 over the student before"):
        weights(Options("sum"), a=-0.3, b=0.1)


def test_an_unknown_formula_or_temperature_is_refused():
    with pytest.raises(ParamsError, match="'max', expected one of clip, softmax, sum"):
        weights(Options("max"), a=0.1)
    with pytest.raises(ParamsError, match=r"merge\.tau is 0\.0, expected a number above 0"):
        weights(Options("softmax", tau=0.0), a=0.1)
