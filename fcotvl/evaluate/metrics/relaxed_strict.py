"""Relaxed accuracy as its paper defines it, relative to the reference, but with exact years."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from fcotvl.evaluate.metrics import best
from fcotvl.evaluate.metrics._relaxed import TOLERANCE, number

_YEAR = re.compile(r"(19|20)\d\d")


def score(prediction: str, references: Sequence[str]) -> float:
    """1 where the answer lies within 5 % of the reference, else 0; years must be equal.

    A reference of four digits from 1900 to 2099 counts as a year. Both sides are stripped. Zero equals zero however it
    is written. ``nan`` and ``inf`` are words here, not numbers.
    """
    return best(lambda reference: float(_match(prediction.strip(), reference.strip())), references)


def _match(answer: str, target: str) -> bool:
    value, goal = _finite(answer), _finite(target)
    if value is None or goal is None:
        return answer.lower() == target.lower()
    if _YEAR.fullmatch(target):
        return value == goal
    return abs(value - goal) <= TOLERANCE * abs(goal)


def _finite(text: str) -> float | None:
    value = number(text)
    return value if value is not None and math.isfinite(value) else None
