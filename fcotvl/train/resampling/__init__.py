"""Resampling rules: from recorded losses to sampling weights. Each file of this folder is one rule.

A rule is a pure function of the record, so a trajectory of weights can be recomputed from the loss
table alone, and a resumed run continues with the weights of the run that was stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import groupby
from pkgutil import iter_modules

from fcotvl.core.errors import ParamsError

Weights = dict[str, float]


@dataclass(frozen=True)
class Row:
    """One row of the loss table: a data set in one training step."""

    step: int
    dataset: str
    loss: float
    """Mean over the items drawn, nats."""
    n: int
    """Items drawn."""
    reference: float
    """The teacher's loss on a sample of this data set."""


@dataclass(frozen=True)
class Mean:
    """What a window of steps says about a data set."""

    loss: float
    reference: float


Window = Mapping[str, Mean]
"""Means of the data sets that were drawn between two updates."""


@dataclass(frozen=True)
class Settings:
    """Step size and bounds."""

    eta: float
    alpha: float
    floor: float
    """Least weight, as a share of uniform."""
    cap: float
    """Largest weight, as a multiple of uniform."""


Rule = Callable[[Weights, Sequence[Window], Settings], Weights]


@cache
def available() -> tuple[str, ...]:
    """Names of all rules in this folder, sorted."""
    return tuple(sorted(module.name for module in iter_modules(__path__)))


def rule(name: str) -> Rule:
    """The function ``weigh`` of rule ``name``.

    Raises:
        ParamsError: ``name`` is unknown.
    """
    if name not in available():
        raise ParamsError(f"no resampling rule {name!r}; there are {', '.join(available())}")
    found: Rule = import_module(f"{__name__}.{name}").weigh
    return found


def windows(rows: Iterable[Row], every: int) -> list[Window]:
    """Means over each run of ``every`` steps; rows are in order and steps count from 1."""
    return [
        {name: _mean(list(group)) for name, group in groupby(sorted(span, key=_name), _name)}
        for _, span in groupby(rows, lambda row: (row.step - 1) // every)
    ]


def _name(row: Row) -> str:
    return row.dataset


def _mean(rows: list[Row]) -> Mean:
    drawn = sum(row.n for row in rows)
    return Mean(sum(row.loss * row.n for row in rows) / drawn, rows[-1].reference)


def bounded(weights: Weights, settings: Settings) -> Weights:
    """The weights scaled by one factor and clipped between floor and cap, so that they sum to 1.

    Their order is kept. All-zero weights become uniform.
    """
    count = len(weights)
    low, high = settings.floor / count, settings.cap / count
    values = list(weights.values())
    if not any(values):
        return dict.fromkeys(weights, 1 / count)
    clipped = [_clip(_scale(values, low, high) * value, low, high) for value in values]
    return dict(zip(weights, _sum_to_one(clipped, low, high), strict=True))


def _scale(values: list[float], low: float, high: float) -> float:
    """The factor at which the clipped values sum to 1.

    The sum grows with the factor along straight pieces, whose ends are where a value meets a bound.
    """
    ends = sorted({bound / value for value in values if value for bound in (low, high)})
    at = [math.fsum(_clip(end * value, low, high) for value in values) for end in ends]
    after = next((i for i, total in enumerate(at) if total >= 1), len(ends) - 1)
    if not after or at[after] <= at[after - 1]:
        return ends[after]
    share = (1 - at[after - 1]) / (at[after] - at[after - 1])
    return ends[after - 1] + min(share, 1.0) * (ends[after] - ends[after - 1])


def _sum_to_one(values: list[float], low: float, high: float) -> list[float]:
    """Take what rounding left over from, or give it to, whichever value has most room."""
    values = list(values)
    for _ in range(len(values)):
        rest = 1 - math.fsum(values)
        if not rest:
            break
        room = [(high - value) if rest > 0 else (value - low) for value in values]
        place = max(range(len(values)), key=lambda i: (room[i], values[i]))
        values[place] = _clip(values[place] + rest, low, high)
    return values


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
