"""Exact match of normalised texts."""

from collections.abc import Sequence

from fcotvl.evaluate.metrics import best


def score(prediction: str, references: Sequence[str]) -> float:
    """1 where the prediction equals a reference up to letter case and white space, else 0."""
    return best(lambda reference: float(_normal(prediction) == _normal(reference)), references)


def _normal(text: str) -> str:
    return " ".join(text.lower().split())
