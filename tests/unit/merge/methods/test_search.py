"""CMA-ES on utilities whose best weights are known."""

import numpy as np
import pytest

from fcotvl.merge.methods.search import weights
from fcotvl.merge.shapley import EXACT_PLAYERS, coalitions
from tests.support.merging import PARAMS, utility_of


def searched(target):
    """Weights found where utility falls with the squared distance to ``target``, and the averages that were scored."""
    scored = []

    def average(shares):
        scored.append(shares)
        return 1 - sum((shares[name] - target[name]) ** 2 for name in target)

    table = {members: average(uniform(members, target)) for members in coalitions(target) if members}
    scored.clear()
    found = weights(utility_of({frozenset(): 0.0} | table, average), PARAMS)
    return found, scored


def uniform(members, target):
    return {name: (name in members) / len(members) for name in target}


def distance(shares, target):
    return np.linalg.norm([shares[name] - target[name] for name in target])


def test_it_comes_nearer_to_the_best_weights_than_any_soup_at_the_cost_of_shapley_values():
    target = dict(zip("abcdefg", (0.4, 0.3, 0.2, 0.1, 0.0, 0.0, 0.0), strict=True))
    found, scored = searched(target)
    soups = [distance(uniform(members, target), target) for members in coalitions(target) if members]
    assert distance(found, target) < 0.7 * min(soups)
    assert 2 ** len(target) - 9 < len(scored) <= 2 ** len(target)
    assert sum(found.values()) == pytest.approx(1)
    assert searched(target) == (found, scored)


def test_what_is_no_better_than_the_uniform_average_stays_uniform():
    table = {members: float(len(members) == 3) for members in coalitions("abc")}
    assert weights(utility_of(table), PARAMS) == pytest.approx(dict.fromkeys("abc", 1 / 3))


def test_many_checkpoints_are_searched_as_often_as_their_values_are_sampled():
    names = "abcdefghijkl"[: EXACT_PLAYERS + 2]
    scored = []

    def average(shares):
        scored.append(shares)
        return 0.0

    table = {frozenset(): 0.0, frozenset(names): 0.0} | {frozenset(name): 0.0 for name in names}
    weights(utility_of(table, average), PARAMS.model_copy(update={"permutations": 4}))
    assert 60 < len(scored) <= 2 * 4 * len(names)


def test_numpys_own_random_numbers_are_left_alone():
    np.random.seed(1)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    searched(dict.fromkeys("abcd", 0.25))
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
