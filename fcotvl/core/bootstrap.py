"""Bootstrap intervals of scores, aware that questions share images.

Questions about one image succeed and fail together, so whole images are resampled (the cluster bootstrap, Field and
Welsh 2007). An interval lies between percentiles of the resampled scores. Without scores, or without exactly one per
question, there is none: a ``ValueError``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Scores = Sequence[Any] | NDArray[Any]

_CELLS = 2_000_000  # counts turned into floats at once: 16 MB


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: number of resamples, level in (0, 1), seed."""

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
        strata: optional label of each question; a mean is then the mean of the strata's means, each counting the same
            (the two halves of ChartQA).
    """

    images: Sequence[Any]
    strata: Sequence[Any] | None = None


def mean_interval(scores: Scores, questions: Questions, bootstrap: Bootstrap = BOOTSTRAP) -> Interval:
    """The mean of ``scores``, one number per question, with its interval."""
    return _interval([scores], questions, lambda means: means[..., 0], bootstrap)


def mean_intervals(
    rows: Sequence[Scores] | Floats, images: Sequence[Any], bootstrap: Bootstrap = BOOTSTRAP
) -> list[Interval]:
    """The mean of each of ``rows`` [row, question], all over the same resampled images.

    Anything linear in the scores of single questions is such a row: a difference of two systems, a Shapley value, the
    gap between two of them.
    """
    table = np.atleast_2d(np.asarray(rows, dtype=np.float64))
    sums = _sums(table, Questions(images))[:, 0]
    totals = _resampled(sums, bootstrap)
    bounds = [_bounds(means, bootstrap.level) for means in (totals[:, :-1] / totals[:, -1:]).T]
    return [Interval(float(mean), *ends, len(images)) for mean, ends in zip(table.mean(axis=1), bounds, strict=True)]


def difference_interval(
    scores: Scores, baseline: Scores, questions: Questions, bootstrap: Bootstrap = BOOTSTRAP
) -> Interval:
    """The mean of ``scores - baseline`` over the same questions.

    Paired: each resample asks both systems the same questions, so what makes an image hard for both cancels.
    """
    return _interval([scores, baseline], questions, lambda m: m[..., 0] - m[..., 1], bootstrap)


def retention_interval(
    student: Scores, teacher: Scores, questions: Questions, bootstrap: Bootstrap = BOOTSTRAP
) -> Interval:
    """Mean student score / mean teacher score over the same questions, paired as a difference is.

    Not a number where the teacher's mean is 0.
    """
    return _interval([student, teacher], questions, _ratio, bootstrap)


def _ratio(means: Floats) -> Floats:
    out: Floats = np.full(means.shape[:-1], np.nan)
    return np.divide(means[..., 0], means[..., 1], out=out, where=means[..., 1] > 0)


def _interval(
    scores: Sequence[Scores], questions: Questions, statistic: Callable[[Floats], Floats], bootstrap: Bootstrap
) -> Interval:
    sums = _sums(np.array(scores, dtype=np.float64), questions)  # [image, stratum, system + 1]

    def value(totals: Floats) -> Floats:
        """[..., stratum, system + 1] -> [...]; a stratum that a resample misses is left out."""
        weight = totals[..., -1:]
        means = totals[..., :-1] / np.maximum(weight, 1)
        return statistic(means.sum(axis=-2) / (weight > 0).sum(axis=-2))

    totals = _resampled(sums.reshape(len(sums), -1), bootstrap).reshape(-1, *sums.shape[1:])
    low, high = _bounds(value(totals), bootstrap.level)
    return Interval(float(value(sums.sum(axis=0)[None])[0]), low, high, len(questions.images))


def _bounds(resampled: Floats, level: float) -> tuple[float, float]:
    """Percentiles that enclose ``level`` of the resampled values that are numbers."""
    known = resampled[~np.isnan(resampled)]
    tail = (1 - level) / 2
    low, high = np.quantile(known, [tail, 1 - tail]) if len(known) else (math.nan, math.nan)
    return float(low), float(high)


def _sums(rows: Floats, questions: Questions) -> Floats:
    """Totals of each image and stratum: [row, question] -> [image, stratum, row + 1].

    The last column counts the questions.
    """
    count = rows.shape[1]
    if not count or len(questions.images) != count:
        raise ValueError(f"{count} scores of {len(questions.images)} questions have no interval")
    images = _codes(questions.images)
    strata = _codes(questions.strata or [0] * count)
    sums: Floats = np.zeros((images.max() + 1, strata.max() + 1, len(rows) + 1))
    np.add.at(sums, (images, strata), np.vstack([rows, np.ones(count)]).T)
    return sums


def _resampled(sums: Floats, bootstrap: Bootstrap) -> Floats:
    """Totals of resamples of as many images as there are: [image, column] -> [resample, column].

    Scores are rounded to multiples of 2^-36: their sums are then exact, so totals do not depend on the order in which a
    processor adds, and equal columns have equal totals.
    """
    counts = _counts(len(sums), bootstrap.resamples, bootstrap.seed)
    exact = np.round(sums * 2**36) / 2**36
    step = max(1, _CELLS // len(sums))
    blocks = (counts[start : start + step] for start in range(0, len(counts), step))
    return np.vstack([block.astype(np.float64) @ exact for block in blocks])


@lru_cache(maxsize=32)
def _counts(images: int, resamples: int, seed: int) -> NDArray[np.uint8]:
    """How often each resample holds each image: [resample, image], 10 MB for 2,000 of 5,000.

    Kept, because one report makes hundreds of intervals over the same few numbers of images. A byte is enough: up to
    255 images it holds any count, and beyond no image is drawn that often.
    """
    rng = np.random.default_rng(seed)
    counts = np.empty((resamples, images), dtype=np.uint8)
    for row in counts:
        row[:] = np.bincount(rng.integers(images, size=images), minlength=images)
    counts.flags.writeable = False
    return counts


def _codes(labels: Sequence[Any]) -> NDArray[np.intp]:
    seen: dict[Any, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in labels], dtype=np.intp)
