"""Average normalised Levenshtein similarity: the metric of DocVQA and InfographicVQA."""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from fcotvl.evaluate.metrics import best

THRESHOLD = 0.5


def score(prediction: str, references: Sequence[str]) -> float:
    """1 - edit distance / length for the nearest reference; 0 where that is below one half.

    As in the official RRC script, which InternVL, lmms-eval and VLMEvalKit all use: the distance is between stripped,
    lower-cased texts with single spaces, but the length is that of the longer *raw* text in capitals (so ``ß`` counts
    twice), and a similarity of exactly 0.5 stays, where the formula of the paper (arXiv 1907.00490) would drop it.
    """
    similarity = best(lambda reference: 1 - _distance(prediction, reference), references)
    return similarity if similarity >= THRESHOLD else 0.0


def _distance(prediction: str, reference: str) -> float:
    length = max(len(prediction.upper()), len(reference.upper()))
    if not length:
        return 0.0
    return Levenshtein.distance(_normal(prediction), _normal(reference)) / length


def _normal(text: str) -> str:
    return " ".join(text.strip().lower().split())
