"""From Shapley values to weights. In an additive game the value of a player is its own worth."""

from math import exp

import pytest

from fcotvl.core.errors import DataError
from fcotvl.merge.methods import shapley
from fcotvl.merge.shapley import LazyTable, coalitions, sampled_values
from tests.support.merging import PARAMS


def weights(worth, **changed):
    utility = {members: 0.5 + sum(worth[m] for m in members) for members in coalitions(worth)}
    return shapley.weights(utility, PARAMS.model_copy(update=changed))


def test_clip_gives_nothing_to_a_harmful_checkpoint():
    assert weights({"a": 0.3, "b": 0.1, "c": -0.2}) == pytest.approx({"a": 0.75, "b": 0.25, "c": 0})


def test_clip_averages_uniformly_with_a_warning_if_no_value_is_positive(caplog):
    assert weights({"a": -0.1, "b": -0.3}) == {"a": 0.5, "b": 0.5}
    assert "averaged uniformly" in caplog.text


def test_softmax_gives_every_checkpoint_a_weight():
    found = weights({"a": 0.3, "b": 0.1}, weights="softmax", tau=0.1)
    assert found["a"] / found["b"] == pytest.approx(exp(2))
    assert weights({"a": 0.3, "b": 0.1}, weights="softmax", tau=1e-6)["a"] == pytest.approx(1)


def test_sum_subtracts_a_harmful_checkpoint():
    found = weights({"a": 0.3, "b": -0.1}, weights="sum")
    assert found == pytest.approx({"a": 1.5, "b": -0.5})


def test_sum_needs_a_gain_to_divide():
    with pytest.raises(DataError, match=r"gain -0\.2000 over the student before"):
        weights({"a": -0.3, "b": 0.1}, weights="sum")


def test_many_checkpoints_are_valued_by_permutations():
    names = "abcdefghij"
    asked = []

    def utility(members):
        asked.append(members)
        return float(len(members) > 2) + 0.1 * ("a" in members)

    found = shapley.weights(LazyTable(names, utility), PARAMS.model_copy(update={"permutations": 4}))
    values = sampled_values(utility, list(names), pairs=4)
    total = sum(one.value for one in values.values())
    assert found == pytest.approx({name: one.value / total for name, one in values.items()})
    assert len(set(asked)) < 2 ** len(names) / 4
