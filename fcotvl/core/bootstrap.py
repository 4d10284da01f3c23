"""How sure a score is: bootstrap intervals that know that questions share images.

Questions about one image succeed and fail together, so whole images are resampled (the cluster
bootstrap), and an interval is made of the percentiles of the resampled scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Scores = Sequence[Any] | NDArray[Any]

_CELLS = 2_000_000  # drawn at once, so that memory stays at some 50 MB for any benchmark


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made."""

    resamples: int = 2000
    level: float = 0.95
    seed: int = 0


BOOTSTRAP = Bootstrap()


@dataclass(frozen=True)
class Interval:
    """A value of ``n`` questions with the interval around it, in the unit of the scores."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Questions:
    """What the scored questions have in common.

    Attributes:
        images: the image of each question, any hashable.
        strata: where given, a label of each question; a mean is then the mean of the strata's
            means, each counting the same (the two halves of ChartQA).
    """

    images: Sequence[Any]
    strata: Sequence[Any] | None = None


def mean_interval(
    scores: Scores, questions: Questions, bootstrap: Bootstrap = BOOTSTRAP
) -> Interval:
    """The mean of ``scores``, one number a question, with its interval.

    Raises:
        ValueError: there is no score, or not one question a score.
    """
    return _interval([scores], questions, lambda means: means[..., 0], bootstrap)


def difference_interval(
    scores: Scores, baseline: Scores, questions: Questions, bootstrap: Bootstrap = BOOTSTRAP
) -> Interval:
    """The mean of ``scores - baseline`` over the same questions.

    Paired: each resample asks both systems the same questions, so what makes an image hard for
    both cancels.

    Raises:
        ValueError: there is no score, or not one question a score.
    """
    return _interval([scores, baseline], questions, lambda m: m[..., 0] - m[..., 1], bootstrap)


def retention_interval(
    student: Scores, teacher: Scores, questions: Questions, bootstrap: Bootstrap = BOOTSTRAP
) -> Interval:
    """Mean student score / mean teacher score over the same questions, paired as a difference is.

    Not a number where the teacher scores nothing.

    Raises:
        ValueError: there is no score, or not one question a score.
    """
    return _interval([student, teacher], questions, _ratio, bootstrap)


def _ratio(means: Floats) -> Floats:
    out: Floats = np.full(means.shape[:-1], np.nan)
    return np.divide(means[..., 0], means[..., 1], out=out, where=means[..., 1] > 0)


def _interval(
    scores: Sequence[Scores],
    questions: Questions,
    statistic: Callable[[Floats], Floats],
    bootstrap: Bootstrap,
) -> Interval:
    table = np.stack([np.asarray(column, dtype=np.float64) for column in scores], axis=1)
    count, systems = table.shape
    if not count or len(questions.images) != count:
        raise ValueError(f"{count} scores of {len(questions.images)} questions have no interval")
    sums = _sums(np.hstack([table, np.ones((count, 1))]), questions)

    def value(totals: Floats) -> Floats:
        weight = totals[..., systems:]
        means = totals[..., :systems] / np.maximum(weight, 1)
        present = (weight > 0).sum(axis=-2)  # a resample may miss a stratum: it is left out there
        return statistic(means.sum(axis=-2) / present)

    rng = np.random.default_rng(bootstrap.seed)
    tail = (1 - bootstrap.level) / 2
    resampled = value(_resample(sums, bootstrap.resamples, rng))
    low, high = _quantiles(resampled, [tail, 1 - tail])
    return Interval(float(value(sums.sum(axis=0)[None])[0]), low, high, count)


def _quantiles(values: Floats, shares: list[float]) -> list[float]:
    known = values[~np.isnan(values)]
    return np.quantile(known, shares).tolist() if len(known) else [math.nan] * len(shares)


def _sums(table: Floats, questions: Questions) -> Floats:
    """Column totals of each image and stratum: [question, column] -> [image, stratum, column]."""
    images = _codes(questions.images)
    strata = _codes(questions.strata or [0] * len(table))
    sums: Floats = np.zeros((images.max() + 1, strata.max() + 1, table.shape[1]))
    np.add.at(sums, (images, strata), table)
    return sums


def _resample(sums: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Totals of ``count`` draws, with replacement, of as many images as there are."""
    images = len(sums)
    step = max(1, _CELLS // sums.size)
    blocks = [
        sums[rng.integers(images, size=(min(step, count - start), images))].sum(axis=1)
        for start in range(0, count, step)
    ]
    return np.concatenate(blocks)


def _codes(labels: Sequence[Any]) -> NDArray[np.intp]:
    seen: dict[Any, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in labels], dtype=np.intp)
