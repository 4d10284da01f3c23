from fcotvl.merge.methods.uniform import weights
from tests.support.merging import PARAMS


def test_scores_do_not_matter():
    utility = {frozenset(): 0.0, frozenset("a"): 9.0, frozenset("b"): -9.0}
    assert weights(utility, PARAMS) == {"a": 0.5, "b": 0.5}
