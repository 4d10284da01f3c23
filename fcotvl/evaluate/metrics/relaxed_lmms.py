"""Relaxed accuracy as lmms-eval's ``chartqa`` task computes it."""

from __future__ import annotations

from collections.abc import Sequence

from fcotvl.evaluate.metrics import best, register
from fcotvl.evaluate.metrics._relaxed import relaxed_match


@register("relaxed_lmms")
def relaxed_lmms(prediction: str, references: Sequence[str]) -> float:
    """1 where the answer lies within 5 % of the reference, else 0; nothing is stripped.

    That task knows one reference a question; given several, the best counts.

    Raises:
        ValueError: there is no reference.
    """
    return best(lambda reference: relaxed_match(prediction, target=reference), references)
