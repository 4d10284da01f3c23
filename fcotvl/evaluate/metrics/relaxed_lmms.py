"""Relaxed accuracy as lmms-eval's ``chartqa`` task computes it."""

from collections.abc import Sequence

from fcotvl.evaluate.metrics import best
from fcotvl.evaluate.metrics._relaxed import relaxed_match


def score(prediction: str, references: Sequence[str]) -> float:
    """1 where the answer lies within 5 % of the reference, else 0; nothing is stripped.

    That task has one reference per question; of several, the best counts.
    """
    return best(lambda reference: relaxed_match(prediction, target=reference), references)
