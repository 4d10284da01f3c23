"""Every merge rule keeps one contract."""

import pytest

from fcotvl.core.errors import DataError, ParamsError
from fcotvl.merge import methods as rules
from fcotvl.merge.methods import Options
from fcotvl.merge.shapley import coalitions

SCORES = {"": 0.1, "a": 0.4, "b": 0.5, "c": 0.2, "ab": 0.6, "ac": 0.3, "bc": 0.5, "abc": 0.55}
UTILITY = {frozenset(members): score for members, score in SCORES.items()}
EVERY = pytest.mark.parametrize("name", rules.available())


def test_finds_every_rule_of_the_folder():
    assert rules.available() == ("best", "greedy", "shapley", "uniform")


@EVERY
def test_weighs_every_checkpoint_and_sums_to_one(name):
    weights = rules.get(name)(UTILITY, Options())
    assert sorted(weights) == ["a", "b", "c"]
    assert sum(weights.values()) == pytest.approx(1)


@EVERY
def test_a_single_checkpoint_gets_all_the_weight(name):
    utility = {frozenset(): 0.1, frozenset({"a"}): 0.2}
    assert rules.get(name)(utility, Options()) == {"a": 1.0}


@EVERY
def test_equal_checkpoints_do_not_depend_on_the_order_of_the_table(name):
    utility = {members: float(len(members)) for members in coalitions("abc")}
    turned = dict(reversed(list(utility.items())))
    assert rules.get(name)(utility, Options()) == rules.get(name)(turned, Options())


@EVERY
def test_a_table_without_checkpoints_is_refused(name):
    with pytest.raises(DataError, match="names no checkpoint"):
        rules.get(name)({frozenset(): 0.1}, Options())


@pytest.mark.parametrize("name", ["best", "greedy", "shapley"])
def test_a_coalition_without_score_is_named(name):
    utility = {members: score for members, score in UTILITY.items() if members != frozenset("b")}
    with pytest.raises(DataError, match=r"\['b'\]"):
        rules.get(name)(utility, Options())


def test_an_unknown_rule_is_answered_with_the_known_ones():
    with pytest.raises(ParamsError, match="no merge rule 'ties'; there are best, greedy, shapley"):
        rules.get("ties")


def test_a_second_rule_of_the_same_name_is_refused():
    with pytest.raises(ValueError, match="two merge rules are called 'best'"):
        rules.register("best")(rules.get("uniform"))
