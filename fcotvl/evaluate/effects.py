"""Effects over questions and training seeds: an estimate, its interval, and what could have been seen.

A number of a study moves for two reasons: other questions could have been asked, and other seeds trained. Their
variances add. That of the questions is clustered by image, since questions about one image succeed and fail together
(Miller 2024, arXiv 2411.00640, section 2.2). That of the seeds is the variance between their values over the number of
seeds (Bouthillier et al. 2021, arXiv 2103.03098); what depends on question and seed together is in both, so that
intervals are rather too wide. The interval is Student's, with the degrees of freedom of Satterthwaite (1946): with
three seeds that differ, it is honest about how little three are. What is not linear in the scores, as the place of a
knee, has percentiles of resamples instead.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import nct, norm
from scipy.stats import t as student_t

from fcotvl.core.bootstrap import BOOTSTRAP, Bootstrap, Interval

LEVEL = 0.95
POWER = 0.8
"""Chance of seeing an effect that is called detectable."""
_MANY = 1000
"""Degrees of freedom from which on Student's t is taken for normal where power is concerned."""

KNEE_POINTS = 5
"""Least number of points of a curve whose knee is sought: one more than two joined lines have parameters."""
_JOINS = 501
"""Places that are tried for the knee, a tenth of a percent apart where they reach from 25 to 75 %."""

Floats = NDArray[np.float64]
Rows = Float[Floats, "seed question"]


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


@dataclass(frozen=True)
class Knee:
    """Where a curve begins to fall faster: two lines that meet there, fitted to it by least squares."""

    place: Interval
    """Where they meet, in the unit of the places. It and the slopes mean nothing where there is no knee."""
    before: Interval
    """Slope up to the knee, in points for a unit of the places."""
    after: Interval
    """Slope beyond it."""
    bend: Effect
    """How much the slope changes, wherever it does: what says whether there is a knee."""

    @property
    def exists(self) -> bool:
        """Does the curve fall faster from somewhere on? Otherwise one straight line fits as well as two."""
        return self.bend.high < 0


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
    value, critical = float(by_seed.mean()), float(student_t.ppf((1 + LEVEL) / 2, freedom))
    reach, detectable = critical * error, _detectable(critical, freedom) * error
    return Effect(value, value - reach, value + reach, detectable, questions, seeds)


def _detectable(critical: float, freedom: float) -> float:
    """The true effect, in standard errors, whose estimate lies beyond ``critical`` of these with a chance of ``POWER``.

    An estimate over its estimated error has a noncentral t distribution, for many degrees of freedom a normal one.
    """
    if not freedom <= _MANY:  # or there is none
        return critical + float(norm.ppf(POWER))
    return float(brentq(lambda true: nct.sf(critical, freedom, true) - POWER, critical, 10 * critical, xtol=1e-3))


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


def knee(
    places: Float[Floats, " point"],
    curve: Float[Floats, "point seed question"],
    images: Sequence[Any],
    families: Sequence[Any],
    bootstrap: Bootstrap = BOOTSTRAP,
) -> Knee:
    """Find where the mean scores of ``curve`` begin to fall faster, and whether they do.

    *Where*: least squares with equal weights choose the join of two lines, among joins at which the slope falls. A join
    lies between the second place and the last but one: beyond, one of the lines has a single point, and any join fits
    as well. So a knee at an end of that range may lie further out. Kneedle (Satopaa et al. 2011) would name one of the
    measured points, and of noise about a straight line as well; with five points, that is too coarse for an interval,
    and no answer to whether there is a knee.

    *Whether*: the join has no place without a knee, so a test of the best join would find one too often. Muggeo (2016,
    J. Stat. Comput. Simul. 86, 3059-3067; ``pscore.test`` of R's ``segmented``) tests the mean of the hinges at all
    joins, beside a straight line. Its coefficient is linear in the scores and has the interval of ``effect``.

    Intervals of place and slopes are percentiles over resamples in which images and seeds are drawn apart (the
    pigeonhole bootstrap, Owen 2007, doi 10.1214/07-AOAS122), each of one seed less than there are: with as many, the
    variance of a mean over few seeds would come out too small (Rao and Wu 1988, J. Am. Stat. Assoc. 83, 231-241).

    Args:
        places: where the points lie, ascending.
        curve: scores at each of them.
        images: the image of each question.
        families: the benchmark of each question; all count the same.
        bootstrap: how intervals are made.

    Raises:
        ValueError: there are fewer points than ``KNEE_POINTS``, or no questions.
    """
    if len(places) < KNEE_POINTS:
        raise ValueError(f"{len(places)} points have no knee; at least {KNEE_POINTS} are needed")
    joins = np.linspace(places[1], places[-2], _JOINS)
    hinges = np.maximum(places - joins[:, None], 0)
    line = np.stack([np.ones_like(places), places])
    solve = np.linalg.pinv(line)  # scores @ solve: intercept and slope by least squares
    own = hinges - hinges @ solve @ line  # what of a hinge no straight line explains
    sizes = np.linalg.norm(own, axis=1)

    def fit(means: Float[Floats, "resample point"]) -> Float[Floats, "part resample"]:
        """Place of the join, slope before it, slope after it."""
        best = (means @ (own / sizes[:, None]).T).argmin(axis=1)
        change = (means * own[best]).sum(axis=1) / sizes[best] ** 2
        before = (means - change[:, None] * hinges[best]) @ solve[:, 1]
        return np.stack([joins[best], before, before + change])

    tail = (1 - bootstrap.level) / 2
    whole = np.array([effect(rows, images, families).value for rows in curve])
    ends = np.quantile(fit(_resampled(curve, images, families, bootstrap)), [tail, 1 - tail], axis=1)
    place, before, after = (
        Interval(float(value), float(low), float(high), len(images))
        for value, low, high in zip(fit(whole[None])[:, 0], *ends, strict=True)
    )
    average = own.mean(axis=0)
    weights = average / (average @ average)
    # Rounded, so that a straight line without noise has a bend of 0.
    bends = np.round((weights[:, None, None] * curve).sum(axis=0), 9)
    return Knee(place, before, after, effect(bends, images, families))


def _resampled(
    curve: Float[Floats, "point seed question"], images: Sequence[Any], families: Sequence[Any], bootstrap: Bootstrap
) -> Float[Floats, "resample point"]:
    """Mean scores when images of each family, and seeds, are drawn anew."""
    rng = np.random.default_rng(bootstrap.seed)
    points, seeds, questions = curve.shape
    names = np.asarray(families, dtype=object)
    rows = np.vstack([curve.reshape(-1, questions), np.ones(questions)])
    means = []
    for family in dict.fromkeys(families):
        here = names == family
        codes = _codes([image for image, own in zip(images, here, strict=True) if own])
        sums = np.stack([np.bincount(codes, weights=row) for row in rows[:, here]], axis=1)
        drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=bootstrap.resamples) @ sums
        means.append(drawn[:, :-1] / drawn[:, -1:])
    by_seed = np.mean(means, axis=0).reshape(-1, points, seeds)
    chosen = rng.integers(seeds, size=(bootstrap.resamples, 1, max(1, seeds - 1)))
    resampled: Floats = np.take_along_axis(by_seed, chosen, axis=2).mean(axis=2)
    return resampled


def _codes(labels: Sequence[Any]) -> NDArray[np.intp]:
    """A number for each label, from 0 on."""
    seen: dict[Any, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in labels], dtype=np.intp)


def _clustered(values: Float[NDArray[np.float64], " question"], images: Sequence[Any]) -> tuple[float, int]:
    """Variance of the mean of ``values`` when whole images are drawn, and the number of images."""
    sums = np.bincount(_codes(images), weights=values - values.mean())
    count = len(sums)
    if count < 2:  # noqa: PLR2004 - one image says nothing of others
        return math.inf, count
    return float(count / (count - 1) * (sums**2).sum() / len(values) ** 2), count
