"""Resampling rules (section 3.2): from losses to sampling weights. Each file is one rule.

A rule is a pure function ``weigh`` of the recorded losses, so sampling weights can be recomputed from the loss table
alone, and a resumed run continues with those of the run that was stopped.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from fcotvl.core.config import ResamplingParams
from fcotvl.core.registry import Registry

Weights = dict[str, float]
"""Sampling weight of each data set."""


@dataclass(frozen=True)
class LossRow:
    """One row of the loss table: a data set in one training step."""

    step: int
    dataset: str
    loss: float
    """Mean over the items of the step, nats per answer token."""
    n: int
    """Items of the data set in this step."""
    reference: float
    """The teacher's loss on a sample of this data set."""


@dataclass(frozen=True)
class MeanLoss:
    """Mean loss of a data set in a window of steps, and the teacher's."""

    loss: float
    reference: float


Window = Mapping[str, MeanLoss]
"""Mean losses of the data sets that were sampled between two updates."""
Rule = Callable[[Weights, Sequence[Window], ResamplingParams], Weights]
"""From the initial weights, the windows so far and the limits to the weights now."""
Bounds = tuple[float, float]
"""The least and the largest weight of a data set."""

REGISTRY = Registry(__name__, "weigh", noun="resampling rule")
available, get = REGISTRY.available, REGISTRY.get


def windows(rows: Iterable[LossRow], every: int) -> list[Window]:
    """Means over each run of ``every`` steps; rows are in order and steps count from 1."""
    by_name = attrgetter("dataset")
    return [
        {name: _mean(list(group)) for name, group in groupby(sorted(span, key=by_name), by_name)}
        for _, span in groupby(rows, lambda row: (row.step - 1) // every)
    ]


def _mean(rows: list[LossRow]) -> MeanLoss:
    count = sum(row.n for row in rows)
    return MeanLoss(sum(row.loss * row.n for row in rows) / count, rows[-1].reference)


def bounded(weights: Weights, initial: Weights, limits: ResamplingParams) -> Weights:
    """The weights scaled by one factor and clipped, so that they sum to 1.

    Each lies between ``floor`` and ``cap`` times its initial weight. All-zero weights become the initial ones.
    """
    values = list(weights.values())
    if not any(values):
        return dict(initial)
    bounds = [(limits.floor * initial[name], limits.cap * initial[name]) for name in weights]
    factor = _factor(values, bounds)
    clipped = [_clip(factor * value, *ends) for value, ends in zip(values, bounds, strict=True)]
    return dict(zip(weights, _sum_to_one(clipped, bounds), strict=True))


def _factor(values: list[float], bounds: list[Bounds]) -> float:
    """The factor at which the clipped values sum to 1.

    The sum is piecewise linear in the factor; pieces end where a value meets a bound.
    """
    pairs = list(zip(values, bounds, strict=True))
    ends = sorted({bound / value for value, both in pairs if value for bound in both})
    sums = [math.fsum(_clip(end * value, *both) for value, both in pairs) for end in ends]
    after = next((i for i, total in enumerate(sums) if total >= 1), len(ends) - 1)
    if not after or sums[after] <= sums[after - 1]:
        return ends[after]
    share = (1 - sums[after - 1]) / (sums[after] - sums[after - 1])
    return ends[after - 1] + min(share, 1.0) * (ends[after] - ends[after - 1])


def _sum_to_one(values: list[float], bounds: list[Bounds]) -> list[float]:
    """Correct the rounding error of the sum at the value that is farthest from its bound."""
    values = list(values)
    for _ in range(len(values)):
        rest = 1 - math.fsum(values)
        if not rest:
            break
        slack = [(high - v) if rest > 0 else (v - low) for v, (low, high) in zip(values, bounds, strict=True)]
        widest = max(range(len(values)), key=lambda i: (slack[i], values[i]))
        values[widest] = _clip(values[widest] + rest, *bounds[widest])
    return values


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
