"""Every merge method keeps one contract."""

import pytest

from fcotvl.core.errors import DataError, ParamsError
from fcotvl.merge import methods
from fcotvl.merge.shapley import coalitions
from tests.support.merging import PARAMS, utility_of

SCORES = {"": 0.1, "a": 0.4, "b": 0.5, "c": 0.2, "ab": 0.6, "ac": 0.3, "bc": 0.5, "abc": 0.55}
UTILITY = {frozenset(members): score for members, score in SCORES.items()}
EVERY = pytest.mark.parametrize("name", methods.available())


def test_finds_every_method_of_the_folder():
    assert methods.available() == ("best", "greedy", "search", "shapley", "uniform")


@EVERY
def test_weighs_every_checkpoint_and_sums_to_one(name):
    weights = methods.get(name)(utility_of(UTILITY), PARAMS)
    assert sorted(weights) == ["a", "b", "c"]
    assert sum(weights.values()) == pytest.approx(1)


@EVERY
def test_a_single_checkpoint_gets_all_the_weight(name):
    utility = {frozenset(): 0.1, frozenset({"a"}): 0.2}
    assert methods.get(name)(utility_of(utility), PARAMS) == {"a": 1.0}


@EVERY
def test_equal_checkpoints_do_not_depend_on_the_order_of_the_table(name):
    utility = {members: float(len(members)) for members in coalitions("abc")}
    turned = dict(reversed(list(utility.items())))
    assert methods.get(name)(utility_of(utility), PARAMS) == methods.get(name)(utility_of(turned), PARAMS)


@EVERY
def test_a_table_without_checkpoints_is_refused(name):
    with pytest.raises(DataError, match="names no checkpoint"):
        methods.get(name)(utility_of({frozenset(): 0.1}), PARAMS)


@pytest.mark.parametrize("name", ["best", "greedy", "shapley"])
def test_a_coalition_without_score_is_named(name):
    utility = {members: score for members, score in UTILITY.items() if members != frozenset("b")}
    with pytest.raises(DataError, match=r"\['b'\]"):
        methods.get(name)(utility, PARAMS)


def test_an_unknown_method_is_answered_with_the_known_ones():
    with pytest.raises(ParamsError, match="no merge method 'ties'; there are best, greedy, search, shapley"):
        methods.get("ties")


@pytest.mark.parametrize(("name", "most"), [("uniform", 0), ("best", 3), ("greedy", 5)])
def test_other_methods_score_only_what_they_look_at(name, most):
    lazy = utility_of(UTILITY)
    methods.get(name)(lazy, PARAMS)
    read = lazy.known.keys() - {frozenset()}  # the type checker of the tests reads the first entry
    assert len(read) == most
