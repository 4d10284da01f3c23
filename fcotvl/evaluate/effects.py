"""Effects over questions and training seeds: an estimate, its interval, and what could have been seen.

A number of a study moves for two reasons: other questions could have been asked, and other seeds trained. Their
variances add. That of the questions is clustered by image, since questions about one image succeed and fail together
(Miller 2024, arXiv 2411.00640, section 2.2). That of the seeds is the variance between their values over the number of
seeds (Bouthillier et al. 2021, arXiv 2103.03098); what depends on question and seed together is in both, so that
intervals are rather too wide. The interval is Student's, with the degrees of freedom of Satterthwaite (1946): with
three seeds that differ, it is honest about how little three are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import t as student_t

LEVEL = 0.95
POWER = 0.8
"""Chance of seeing an effect that is called detectable."""

Rows = Float[NDArray[np.float64], "seed question"]


@dataclass(frozen=True)
class Effect:
    """A mean over questions and seeds, in the unit of its rows."""

    value: float
    low: float
    high: float
    """Ends of the 95 % interval."""
    detectable: float
    """The least true effect whose interval would miss 0 with a chance of 80 %."""
    questions: int
    seeds: int
    """1 where a single run (or none, as of a system without training) leaves the seeds out of the interval."""


def effect(rows: Rows, images: Sequence[Any], families: Sequence[Any]) -> Effect:
    """The mean of ``rows`` over the questions of each family, over families, and over seeds.

    Args:
        rows: one number for each seed and question; a difference of two systems, say.
        images: the image of each question.
        families: the benchmark of each question; all count the same.

    Raises:
        ValueError: there is no question, or ``rows`` has another number of them.
    """
    seeds, questions = rows.shape
    if not questions or questions != len(images) or questions != len(families):
        raise ValueError(f"{questions} numbers of {len(images)} questions have no mean")
    names = np.asarray(families, dtype=object)
    means, variance, clusters = [], 0.0, 0
    for family in dict.fromkeys(families):
        here = names == family
        means.append(rows[:, here].mean(axis=1))
        spread, count = _clustered(rows[:, here].mean(axis=0), [i for i, own in zip(images, here, strict=True) if own])
        variance += spread
        clusters += count - 1
    by_seed = np.mean(means, axis=0)
    parts = [(variance / len(means) ** 2, clusters)]
    if seeds > 1:
        parts.append((float(by_seed.var(ddof=1)) / seeds, seeds - 1))
    error = math.sqrt(sum(part for part, _ in parts))
    known = [(part, degrees) for part, degrees in parts if part and degrees]
    freedom = sum(p for p, _ in known) ** 2 / sum(p**2 / degrees for p, degrees in known) if known else math.inf
    value, reach = float(by_seed.mean()), float(student_t.ppf((1 + LEVEL) / 2, freedom)) * error
    detectable = reach + float(student_t.ppf(POWER, freedom)) * error
    return Effect(value, value - reach, value + reach, detectable, questions, seeds)


def retained(student: Rows, teacher: Float[NDArray[np.float64], " question"], families: Sequence[Any]) -> Rows:
    """Rows whose mean is the student's score in percent of the teacher's, macro means over families both.

    A ratio is linear in the scores of single questions up to terms that vanish with their number (the delta method).
    Not numbers where the teacher scores 0.
    """
    names = np.asarray(families, dtype=object)
    chosen = [names == family for family in dict.fromkeys(families)]
    whole = float(np.mean([teacher[here].mean() for here in chosen]))
    if not whole:
        return np.full_like(student, np.nan)
    kept = np.mean([student[:, here].mean(axis=1) for here in chosen], axis=0)[:, None] / whole
    rows: Rows = 100 * (kept + (student - kept * teacher) / whole)
    return rows


def _clustered(values: Float[NDArray[np.float64], " question"], images: Sequence[Any]) -> tuple[float, int]:
    """Variance of the mean of ``values`` when whole images are drawn, and the number of images."""
    seen: dict[Any, int] = {}
    codes = np.array([seen.setdefault(image, len(seen)) for image in images])
    sums = np.bincount(codes, weights=values - values.mean())
    count = len(seen)
    if count < 2:  # noqa: PLR2004 - one image says nothing of others
        return math.inf, count
    return float(count / (count - 1) * (sums**2).sum() / len(values) ** 2), count
