from fcotvl.merge.methods import Options
from fcotvl.merge.methods.uniform import uniform


def test_scores_do_not_matter():
    utility = {frozenset(): 0.0, frozenset("a"): 9.0, frozenset("b"): -9.0}
    assert uniform(utility, Options()) == {"a": 0.5, "b": 0.5}
