"""Weights by CMA-ES (Hansen, arXiv 1604.00772): a black-box search, at the cost of the Shapley values.

It sees what they see, the utility on the same questions, and may score as many averages.
"""

import math
from functools import partial

import cma
import numpy as np

from fcotvl.core.config import MergeParams
from fcotvl.merge.methods import WeightedUtility, checkpoints, score_of
from fcotvl.merge.shapley import evaluations

SPREAD = 1.0
"""Standard deviation of the first population, in logits of the weights."""


def weights(utility: WeightedUtility, params: MergeParams) -> dict[str, float]:
    """The best weights that were scored, from the uniform average on; the first where some tie.

    Weights are the softmax of the searched point, so they are positive and sum to 1. Whole populations are scored, up
    to as many averages as Shapley values take; a pool too small for one population stays uniform.
    """
    names = checkpoints(utility)
    uniform = dict.fromkeys(names, 1 / len(names))
    reached, best = score_of(utility, frozenset(names)), uniform
    population = 4 + int(3 * math.log(len(names)))
    generations = evaluations(len(names), pairs=params.permutations) // population
    if not generations:
        return best
    draw = partial(_draw, np.random.default_rng(0))  # not numpy's own, which cma would seed for the whole process
    options = {"popsize": population, "verbose": -9, "seed": math.nan, "randn": draw}
    search = cma.CMAEvolutionStrategy([0.0] * len(names), SPREAD, options)
    for _ in range(generations):
        points = search.ask()
        shares = [_softmax(names, point) for point in points]
        scores = [utility.average(one) for one in shares]
        search.tell(points, [-score for score in scores])
        for score, one in zip(scores, shares, strict=True):
            if score > reached:
                reached, best = score, one
    return best


def _draw(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.standard_normal(shape)


def _softmax(names: list[str], point: np.ndarray) -> dict[str, float]:
    exponents = np.exp(point - point.max())
    return dict(zip(names, (exponents / exponents.sum()).tolist(), strict=True))
