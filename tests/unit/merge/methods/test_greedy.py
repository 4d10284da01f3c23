import pytest

from fcotvl.merge.methods.greedy import weights
from tests.support.merging import PARAMS


def soup(**scores):
    return weights({frozenset(members): score for members, score in scores.items()}, PARAMS)


def test_a_checkpoint_that_lowers_the_soup_is_left_out():
    found = soup(a=0.4, b=0.5, c=0.2, ab=0.6, abc=0.55)
    assert found == {"a": 0.5, "b": 0.5, "c": 0}


def test_a_checkpoint_that_changes_nothing_is_kept():
    assert soup(a=0.5, b=0.4, ab=0.5) == {"a": 0.5, "b": 0.5}


def test_trying_goes_on_after_one_is_left_out():
    found = soup(a=0.5, b=0.4, c=0.3, ab=0.1, ac=0.6)
    assert found == {"a": 0.5, "b": 0, "c": 0.5}


def test_all_of_three_weigh_a_third():
    found = soup(a=0.5, b=0.4, c=0.3, ab=0.6, abc=0.7)
    assert found == pytest.approx(dict.fromkeys("abc", 1 / 3))
