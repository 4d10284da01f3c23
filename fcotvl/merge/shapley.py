"""What each checkpoint contributes to the scores of the averages that it is part of.

The game is the one of federated learning: players are checkpoints, and a coalition's utility is
the score of the uniform average of its members. The utility of the empty coalition is that of the
student before post-training; adding d to it takes d/n from every value, so that ranks and gaps
stay but normalised weights move.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import factorial, fsum, nan, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcotvl.core.errors import DataError

Coalition = frozenset[str]


@dataclass(frozen=True)
class Estimate:
    """A value with the interval around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Sampled:
    """A value estimated from permutations, with its standard error."""

    value: float
    error: float


def coalitions(players: Iterable[str]) -> Iterator[Coalition]:
    """Every set of ``players``, the empty one first, by size and then by name."""
    names = sorted(players)
    for size in range(len(names) + 1):
        yield from map(frozenset, combinations(names, size))


def players_of(table: Mapping[Coalition, Any]) -> list[str]:
    """Everyone who is in some coalition of ``table``, sorted."""
    return sorted(frozenset().union(*table))


def shapley_values(utility: Mapping[Coalition, float]) -> dict[str, float]:
    """Each player's average marginal contribution, in the unit of ``utility`` (Shapley 1953).

    Args:
        utility: score of every coalition, the empty one included.

    Returns:
        Values that sum to ``utility[everyone] - utility[nobody]``.

    Raises:
        DataError: a coalition has no score.
    """
    players, order = _complete(utility)
    return {
        player: fsum(weight * utility[members] for weight, members in zip(row, order, strict=True))
        for player, row in zip(players, _coefficients(players, order), strict=True)
    }


def bootstrap_values(
    scores: Mapping[Coalition, Sequence[Any] | NDArray[Any]],
    images: Sequence[Hashable],
    *,
    replicates: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[dict[str, Estimate], dict[tuple[str, str], Estimate]]:
    """Shapley values with intervals, and the gaps between any two of them with theirs.

    Whole images are resampled, the same ones for every coalition. Where the interval of a gap
    holds zero, these questions cannot tell the two checkpoints apart.

    Args:
        scores: of every coalition, the score of each question.
        images: the image of each question.
        replicates: resamples.
        level: of the intervals.
        seed: of the resamples.

    Raises:
        DataError: a coalition has no scores.
        ValueError: a coalition does not have one score for each question, or there are none.
    """
    players, order = _complete(scores)
    if not images or any(len(scores[members]) != len(images) for members in order):
        raise ValueError(f"every coalition needs one score for each of {len(images)} questions")
    table = np.array([scores[members] for members in order], dtype=np.float64)
    by_question = _coefficients(players, order) @ table  # values are linear in the utility
    gaps = list(combinations(range(len(players)), 2))
    rows = np.vstack([by_question, *(by_question[[i]] - by_question[[j]] for i, j in gaps)])
    drawn = _resampled_means(rows, images, replicates, np.random.default_rng(seed))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    means = rows.mean(axis=1)
    found = [Estimate(*map(float, ends)) for ends in zip(means, low, high, strict=True)]
    pairs = [(players[i], players[j]) for i, j in gaps]
    return (
        dict(zip(players, found[: len(players)], strict=True)),
        dict(zip(pairs, found[len(players) :], strict=True)),
    )


def sampled_values(
    utility: Callable[[Coalition], float], players: Sequence[str], *, pairs: int, seed: int = 0
) -> dict[str, Sampled]:
    """Shapley values from ``pairs`` random orders and their reverses, with standard errors.

    For more players than 2**n coalitions can be scored for. Each order and its reverse count as
    one draw: this antithetic pair is exact where no more than two players interact. No coalition
    is scored twice. One pair alone has no standard error (not a number).

    Raises:
        ValueError: there is no pair to draw.
    """
    if pairs < 1:
        raise ValueError(f"{pairs} pairs of permutations give no estimate")
    score = cache(utility)
    rng = np.random.default_rng(seed)
    draws = np.empty((pairs, len(players)))
    for draw in draws:
        order = rng.permutation(len(players)).tolist()
        draw[:] = (_marginals(score, players, order) + _marginals(score, players, order[::-1])) / 2
    errors = draws.std(axis=0, ddof=1) / sqrt(pairs) if pairs > 1 else np.full(len(players), nan)
    return {
        player: Sampled(float(value), float(error))
        for player, value, error in zip(players, draws.mean(axis=0), errors, strict=True)
    }


def _marginals(
    score: Callable[[Coalition], float], players: Sequence[str], order: list[int]
) -> NDArray[np.float64]:
    gains = np.empty(len(players))
    members: Coalition = frozenset()
    before = score(members)
    for index in order:
        members |= {players[index]}
        after = score(members)
        gains[index], before = after - before, after
    return gains


def _complete(table: Mapping[Coalition, Any]) -> tuple[list[str], list[Coalition]]:
    players = players_of(table)
    order = list(coalitions(players))
    if missing := [sorted(members) for members in order if members not in table]:
        raise DataError(f"{len(missing)} coalitions have no score, the first is {missing[0]}")
    return players, order


def _coefficients(players: list[str], order: list[Coalition]) -> NDArray[np.float64]:
    """What each coalition's utility counts in each player's value: [player, coalition]."""
    n = len(players)
    matrix = np.empty((n, len(order)))
    for row, player in zip(matrix, players, strict=True):
        for column, members in enumerate(order):
            others = len(members - {player})
            sign = 1 if player in members else -1
            row[column] = sign * factorial(others) * factorial(n - others - 1) / factorial(n)
    return matrix


def _resampled_means(
    rows: NDArray[np.float64], images: Sequence[Hashable], replicates: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Means of ``rows`` over resampled images: [row, question] -> [replicate, row]."""
    codes: dict[Hashable, int] = {}
    index = [codes.setdefault(image, len(codes)) for image in images]
    sums = np.zeros((len(codes), len(rows) + 1))
    np.add.at(sums, index, np.vstack([rows, np.ones(len(index))]).T)
    draws = (sums[rng.integers(len(sums), size=len(sums))].sum(axis=0) for _ in range(replicates))
    totals = np.stack(list(draws))
    means: NDArray[np.float64] = totals[:, :-1] / totals[:, -1:]
    return means
