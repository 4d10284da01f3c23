from fcotvl.merge.methods.best import weights
from tests.support.merging import PARAMS


def test_the_highest_single_score_wins_and_the_first_by_name_of_two():
    utility = {frozenset("a"): 0.1, frozenset("c"): 0.5, frozenset("b"): 0.5, frozenset("abc"): 0.9}
    assert weights(utility, PARAMS) == {"a": 0, "b": 1, "c": 0}
