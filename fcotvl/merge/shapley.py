"""What each checkpoint contributes to the scores of the averages that it is part of.

The game is the one of federated learning: players are checkpoints, and a coalition's utility is the score of the
uniform average of its members. The empty coalition is the student before post-training; adding d to its utility takes
d/n from every value, which keeps ranks and gaps but moves normalised weights.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from math import factorial, fsum, nan, sqrt
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fcotvl.core.bootstrap import BOOTSTRAP, Bootstrap, Interval, Scores, mean_intervals
from fcotvl.core.errors import DataError

Coalition = frozenset[str]
Value = TypeVar("Value")

EXACT_PLAYERS = 8
"""Up to 8 players are valued by all 2**n coalitions, more by permutations."""


class Sampled(NamedTuple):
    """A value estimated from permutations, with its standard error."""

    value: float
    error: float


class LazyTable(Mapping[Coalition, Value]):
    """A value for every coalition of ``players``, computed when it is first read."""

    def __init__(self, players: Iterable[str], compute: Callable[[Coalition], Value]) -> None:
        self.players = frozenset(players)
        self.compute = compute
        self.known: dict[Coalition, Value] = {}

    def __getitem__(self, members: Coalition) -> Value:
        if members not in self.known:
            if not members <= self.players:
                raise KeyError(members)
            self.known[members] = self.compute(members)
        return self.known[members]

    def __iter__(self) -> Iterator[Coalition]:
        return coalitions(self.players)

    def __len__(self) -> int:
        return 2 ** len(self.players)


def evaluations(players: int, *, pairs: int) -> int:
    """How many coalitions values are made of; the most, where they are sampled from ``pairs`` of permutations."""
    return 2**players if players <= EXACT_PLAYERS else min(2**players, 2 * pairs * players)


def coalitions(players: Iterable[str]) -> Iterator[Coalition]:
    """Every set of ``players``, the empty one first, by size and then by name."""
    names = sorted(players)
    for size in range(len(names) + 1):
        yield from map(frozenset, combinations(names, size))


def players_of(table: Mapping[Coalition, Any]) -> list[str]:
    """Everyone who is in some coalition of ``table``, sorted."""
    return sorted(frozenset().union(*table))


def estimate_values(utility: Mapping[Coalition, float], *, pairs: int) -> dict[str, float]:
    """Shapley values: exact for up to ``EXACT_PLAYERS``, from permutations for more.

    Raises:
        DataError: a coalition has no score, where values are exact.
    """
    players = players_of(utility)
    if len(players) <= EXACT_PLAYERS:
        return shapley_values(utility)
    sampled = sampled_values(utility.__getitem__, players, pairs=pairs)
    return {player: one.value for player, one in sampled.items()}


def shapley_values(utility: Mapping[Coalition, float]) -> dict[str, float]:
    """Each player's average marginal contribution, in the unit of ``utility`` (Shapley 1953).

    Args:
        utility: score of every coalition, the empty one included.

    Returns:
        Values that sum to ``utility[everyone] - utility[empty_coalition]``.

    Raises:
        DataError: a coalition has no score.
    """
    players, order, matrix = _exact_coefficients(utility)
    return {
        player: fsum(weight * utility[members] for weight, members in zip(row, order, strict=True))
        for player, row in zip(players, matrix, strict=True)
    }


def values_by_question(scores: Mapping[Coalition, Scores], *, pairs: int = 1) -> dict[str, NDArray[np.float64]]:
    """Each player's value for every question: their mean is the value of the mean score, since values are linear.

    Args:
        scores: the score of each question, for every coalition that values are made of.
        pairs: pairs of permutations, for more than ``EXACT_PLAYERS`` players.

    Raises:
        DataError: a coalition has no scores.
    """
    order, draws = _coefficients(scores, pairs)
    table = np.array([scores[members] for members in order], dtype=np.float64)
    return dict(zip(players_of(scores), draws.mean(axis=0) @ table, strict=True))


def sampled_values(
    utility: Callable[[Coalition], float], players: Sequence[str], *, pairs: int, seed: int = 0
) -> dict[str, Sampled]:
    """Shapley values from ``pairs`` random orders and their reverses, with standard errors.

    Each order and its reverse count as one draw: this antithetic pair is exact where no more than two players interact.
    No coalition is scored twice. One pair alone has no standard error (not a number).

    Raises:
        ValueError: ``pairs`` is less than 1.
    """
    order, matrix = _sampled_coefficients(players, pairs, seed)
    draws = matrix @ np.array([utility(members) for members in order], dtype=np.float64)
    values = zip(draws.mean(axis=0).tolist(), _standard_errors(draws), strict=True)
    return {player: Sampled(*value) for player, value in zip(players, values, strict=True)}


def bootstrap_values(
    scores: Mapping[Coalition, Scores], images: Sequence[Hashable], *, pairs: int = 1, bootstrap: Bootstrap = BOOTSTRAP
) -> tuple[dict[str, Interval], dict[tuple[str, str], Interval], dict[str, float]]:
    """Values and the gaps between any two of them, with intervals, and standard errors.

    Whole images are resampled, the same ones for every coalition. If the interval of a gap holds zero, these questions
    cannot tell the two checkpoints apart. Standard errors are those of permutations; exact values have none.

    Args:
        scores: the score of each question, for every coalition.
        images: the image of each question.
        pairs: pairs of permutations, for more than ``EXACT_PLAYERS`` players.
        bootstrap: how intervals are made.

    Raises:
        DataError: a coalition has no scores, where values are exact.
        ValueError: a coalition does not have one score for each question, or there are none.
    """
    players = players_of(scores)
    order, draws = _coefficients(scores, pairs)
    if not images or any(len(scores[members]) != len(images) for members in order):
        raise ValueError(f"every coalition needs one score for each of {len(images)} questions")
    table = np.array([scores[members] for members in order], dtype=np.float64)
    by_question = dict(zip(players, draws.mean(axis=0) @ table, strict=True))  # values are linear
    gaps = {(a, b): by_question[a] - by_question[b] for a, b in combinations(players, 2)}
    found = mean_intervals([*by_question.values(), *gaps.values()], images, bootstrap)
    values = dict(zip(players, found, strict=False))
    errors = _standard_errors(draws @ table.mean(axis=1)) if len(draws) > 1 else []
    return (values, dict(zip(gaps, found[len(players) :], strict=True)), dict(zip(players, errors, strict=False)))


def _coefficients(table: Mapping[Coalition, Any], pairs: int) -> tuple[list[Coalition], NDArray[np.float64]]:
    """Coalitions, and their weights in each draw, of which exact values have one: [draw, player, coalition]."""
    players = players_of(table)
    if len(players) <= EXACT_PLAYERS:
        _, order, matrix = _exact_coefficients(table)
        return order, matrix[None]
    order, draws = _sampled_coefficients(players, pairs)
    _check_scored(order, table)
    return order, draws


def _check_scored(order: Iterable[Coalition], table: Mapping[Coalition, Any]) -> None:
    if missing := [sorted(members) for members in order if members not in table]:
        raise DataError(f"{len(missing)} coalitions have no score, the first is {missing[0]}")


def _exact_coefficients(table: Mapping[Coalition, Any]) -> tuple[list[str], list[Coalition], NDArray[np.float64]]:
    """Players, coalitions, and the weight of a utility in a value: [player, coalition]."""
    players = players_of(table)
    order = list(coalitions(players))
    _check_scored(order, table)
    n = len(players)
    matrix = np.empty((n, len(order)))
    for row, player in zip(matrix, players, strict=True):
        for column, members in enumerate(order):
            others = len(members - {player})
            sign = 1 if player in members else -1
            row[column] = sign * factorial(others) * factorial(n - others - 1) / factorial(n)
    return players, order, matrix


def _sampled_coefficients(
    players: Sequence[str], pairs: int, seed: int = 0
) -> tuple[list[Coalition], NDArray[np.float64]]:
    """Coalitions that come up, and their weights in each draw: [pair, player, coalition]."""
    if pairs < 1:
        raise ValueError(f"{pairs} pairs of permutations give no estimate")
    rng = np.random.default_rng(seed)
    found: dict[Coalition, int] = {}
    steps: list[tuple[int, int, int, int]] = []
    for pair in range(pairs):
        order = rng.permutation(len(players)).tolist()
        for direction in (order, order[::-1]):
            members: Coalition = frozenset()
            before = found.setdefault(members, len(found))
            for player in direction:
                members |= {players[player]}
                after = found.setdefault(members, len(found))
                steps.append((pair, player, before, after))
                before = after
    matrix = np.zeros((pairs, len(players), len(found)))
    for pair, player, before, after in steps:
        matrix[pair, player, before] -= 0.5
        matrix[pair, player, after] += 0.5
    return list(found), matrix


def _standard_errors(draws: NDArray[np.float64]) -> list[float]:
    """Of the mean of each player's draws: [pair, player] -> [player]."""
    pairs, players = draws.shape
    if pairs == 1:
        return [nan] * players
    errors: list[float] = (draws.std(axis=0, ddof=1) / sqrt(pairs)).tolist()
    return errors
