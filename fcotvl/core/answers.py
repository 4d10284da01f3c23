"""Whether a reply is right, for training: used by rejection sampling and by the merge's utility.

Deliberately separate from ``fcotvl.evaluate.metrics``: those reproduce what published tools report, and a fix in one of
them must not change what is trained.
"""

import math
import re
from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from fcotvl.core.prompts import MARKER

TOLERANCE = 0.05
"""Relative to the reference, as ChartQA defines relaxed accuracy (arXiv 2203.10244, section 5)."""
_NUMBER = re.compile(r"^[-+]?[$€£]?\s*(\d[\d,]*(\.\d*)?|\.\d+)\s*%?$")
_YEAR = re.compile(r"^(19|20)\d\d$")


def final_answer(reply: str) -> str:
    """The rest of the line after the last ``Answer:``; the whole reply where there is none."""
    _, marker, tail = reply.rpartition(MARKER)
    return tail.strip().partition("\n")[0].strip() if marker else reply.strip()


def similarity(prediction: str, reference: str) -> float:
    """1 - Levenshtein distance / longer length, of normalised texts, in [0, 1]; 1 is equal.

    A published rejection sampler compares the *distance* with its threshold instead, and so keeps the answers that are
    most wrong.
    """
    return Levenshtein.normalized_similarity(_normal(prediction), _normal(reference))


def is_correct(prediction: str, references: Sequence[str], *, min_similarity: float = 0.9) -> bool:
    """Whether ``prediction`` agrees with one of the ``references``.

    Numbers agree within 5 % of the reference, years exactly; other text agrees where its similarity is at least
    ``min_similarity``, in [0, 1]. Without references nothing is correct.
    """
    return any(_agree(prediction, reference, min_similarity) for reference in references)


def _agree(prediction: str, reference: str, min_similarity: float) -> bool:
    predicted, target = _number(prediction), _number(reference)
    if target is None or _YEAR.match(reference.strip()):
        return similarity(prediction, reference) >= (1.0 if target is not None else min_similarity)
    if predicted is None:
        return False
    return math.isclose(predicted, target, rel_tol=0, abs_tol=TOLERANCE * abs(target))


def _normal(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")


def _number(text: str) -> float | None:
    """The number that ``text`` is, without currency, thousands commas or percent sign."""
    text = text.strip().rstrip(".")
    if not _NUMBER.match(text):
        return None
    return float(re.sub(r"[$€£,%\s]", "", text))
