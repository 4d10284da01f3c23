"""Exact match of normalised texts."""

from __future__ import annotations

from collections.abc import Sequence

from fcotvl.evaluate.metrics import best, register


@register("exact_match")
def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1 where the prediction is a reference, but for letter case and white space; 0 elsewhere.

    Raises:
        ValueError: there is no reference.
    """
    return best(lambda reference: float(_normal(prediction) == _normal(reference)), references)


def _normal(text: str) -> str:
    return " ".join(text.lower().split())
