"""Shapley values against games whose answer is known, and against another implementation."""

from itertools import combinations
from math import isnan

import numpy as np
import pytest
import shapiq

from fcotvl.core.errors import DataError
from fcotvl.merge.shapley import (
    EXACT_PLAYERS,
    LazyTable,
    bootstrap_values,
    coalitions,
    estimate_values,
    sampled_values,
    shapley_values,
    values_by_question,
)

PLANES = {"a": 2.0, "b": 5.0, "c": 9.0}


def game(players, worth):
    return {members: float(worth(members)) for members in coalitions(players)}


def glove(members):
    """One left glove, two right gloves, a pair is worth 1 (Shapley & Shubik 1969)."""
    return "left" in members and len(members) > 1


def airport(members):
    """A runway costs what its largest plane needs (Littlechild & Owen 1973)."""
    return max((PLANES[name] for name in members), default=0)


def random_game(n, seed):
    rng = np.random.default_rng(seed)
    return game("abcdefghijkl"[:n], lambda members: rng.normal())


def test_coalitions_come_by_size_and_then_by_name():
    assert ["".join(sorted(c)) for c in coalitions("bca")] == [*("", "a", "b", "c"), *("ab", "ac", "bc", "abc")]


def test_glove_game():
    values = shapley_values(game(["left", "r1", "r2"], glove))
    assert values == pytest.approx({"left": 2 / 3, "r1": 1 / 6, "r2": 1 / 6})


def test_airport_game():
    """Every stretch of the runway is shared by the planes that need it."""
    values = shapley_values(game(PLANES, airport))
    assert values == pytest.approx({"a": 2 / 3, "b": 2 / 3 + 3 / 2, "c": 2 / 3 + 3 / 2 + 4})


def test_additive_game():
    values = shapley_values(game(PLANES, lambda members: 7 + sum(PLANES[m] for m in members)))
    assert values == pytest.approx(PLANES)


def test_symmetric_game():
    values = shapley_values(game("abcde", lambda members: len(members) ** 2))
    assert values == pytest.approx(dict.fromkeys("abcde", 5.0))


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_agrees_with_shapiq(n):
    utility = random_game(n, seed=n)
    names = sorted(frozenset().union(*utility))

    def worth(matrix):
        return np.array([utility[frozenset(np.array(names)[row])] for row in matrix])

    reference = shapiq.ExactComputer(worth, n_players=n)("SV", order=1)
    expected = [reference[(player,)] for player in range(n)]
    assert [shapley_values(utility)[name] for name in names] == pytest.approx(expected)


def test_a_missing_coalition_is_named():
    utility = game("abc", len)
    del utility[frozenset("ac")], utility[frozenset()]
    with pytest.raises(DataError, match=r"2 coalitions have no score, the first is \[\]"):
        shapley_values(utility)
    utility[frozenset()] = 0.0
    with pytest.raises(DataError, match=r"1 coalitions have no score, the first is \['a', 'c'\]"):
        shapley_values(utility)


def test_antithetic_pairs_are_exact_where_only_two_interact():
    rng = np.random.default_rng(0)
    alone = dict(zip("abcdefghij", rng.normal(size=10), strict=True))
    together = {pair: rng.normal() for pair in combinations("abcdefghij", 2)}

    def worth(members):
        pairs = sum(gain for pair, gain in together.items() if members.issuperset(pair))
        return float(sum(alone[name] for name in members) + pairs)

    found = sampled_values(worth, list(alone), pairs=2)
    exact = {name: alone[name] + sum(gain for pair, gain in together.items() if name in pair) / 2 for name in alone}
    assert {name: one.value for name, one in found.items()} == pytest.approx(exact)
    assert all(one.error == pytest.approx(0, abs=1e-12) for one in found.values())


def test_sampled_values_come_within_their_standard_errors():
    utility = random_game(8, seed=3)
    exact = shapley_values(utility)
    found = sampled_values(utility.__getitem__, sorted(exact), pairs=400, seed=1)
    off = [abs(found[name].value - exact[name]) / found[name].error for name in exact]
    assert max(off) < 4
    assert max(one.error for one in found.values()) < 0.1


def test_sampled_values_share_out_everything_and_score_no_coalition_twice():
    utility, asked = random_game(5, seed=4), []

    def worth(members):
        asked.append(members)
        return utility[members]

    found = sampled_values(worth, list("abcde"), pairs=60)
    gain = utility[frozenset("abcde")] - utility[frozenset()]
    assert sum(one.value for one in found.values()) == pytest.approx(gain)
    assert len(asked) == len(set(asked)) == 32


def test_one_pair_has_no_standard_error_and_none_no_estimate():
    one = sampled_values(len, list("ab"), pairs=1)
    assert isnan(one["a"].error)
    with pytest.raises(ValueError, match="0 pairs"):
        sampled_values(len, list("ab"), pairs=0)


def questions(worth, n=200, seed=5):
    """Right or wrong by question, with the mean of each coalition near its worth."""
    rng = np.random.default_rng(seed)
    luck = rng.random(n)
    return {members: (luck < worth(members)).astype(float).tolist() for members in coalitions("abc")}


def test_the_bootstrap_is_centred_on_the_values_of_the_means():
    scores = questions(lambda members: 0.3 + 0.1 * len(members))
    values, gaps, errors = bootstrap_values(scores, range(200))
    exact = shapley_values({members: float(np.mean(row)) for members, row in scores.items()})
    assert {name: one.value for name, one in values.items()} == pytest.approx(exact)
    assert all(one.low < one.value < one.high for one in values.values())
    assert list(gaps) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert errors == {}


def test_equal_checkpoints_have_a_gap_of_noise_and_a_better_one_does_not():
    scores = questions(lambda members: 0.2 + 0.3 * ("a" in members) + 0.1 * ("b" in members))
    _, gaps, _ = bootstrap_values(scores, range(200))
    assert gaps["a", "b"].low > 0
    rng = np.random.default_rng(6)
    noise = {members: rng.integers(0, 2, 200).tolist() for members in coalitions("ab")}
    _, gaps, _ = bootstrap_values(noise, range(200))
    assert gaps["a", "b"].low < 0 < gaps["a", "b"].high


def test_many_questions_about_one_image_do_not_narrow_the_interval():
    scores = questions(lambda members: 0.3 + 0.1 * len(members), n=60)
    tenfold = {members: np.repeat(row, 10).tolist() for members, row in scores.items()}
    once, *_ = bootstrap_values(scores, range(60))
    repeated, *_ = bootstrap_values(tenfold, np.repeat(range(60), 10).tolist())
    assert (repeated["a"].low, repeated["a"].high) == pytest.approx((once["a"].low, once["a"].high))


def test_scores_and_images_must_be_of_the_same_questions():
    scores = questions(lambda members: 0.5, n=4)
    with pytest.raises(ValueError, match="each of 3 questions"):
        bootstrap_values(scores, range(3))
    with pytest.raises(ValueError, match="each of 0 questions"):
        bootstrap_values({members: [] for members in coalitions("a")}, [])


def worth_of_many(members):
    """A game of ten players in which three interact."""
    together = {"a", "b", "c"} <= members
    return 0.3 + 0.02 * len(members) + 0.2 * together


def test_values_of_more_players_come_from_permutations_with_standard_errors():
    rng = np.random.default_rng(8)
    luck = rng.random(50)
    table = LazyTable("abcdefghij", lambda members: (luck < worth_of_many(members)).tolist())
    utility = LazyTable("abcdefghij", lambda members: float(np.mean(table[members])))
    values, gaps, errors = bootstrap_values(table, range(50), pairs=6)
    sampled = sampled_values(utility.__getitem__, list("abcdefghij"), pairs=6)
    assert {p: one.value for p, one in values.items()} == pytest.approx({p: one.value for p, one in sampled.items()})
    assert errors == pytest.approx({p: one.error for p, one in sampled.items()})
    assert len(gaps) == 45
    assert max(errors.values()) > 0
    assert len(table.known) < 2**10 / 4


def test_values_of_questions_are_those_of_their_mean_however_many_players_there_are():
    luck = np.random.default_rng(9).random(50)
    for players in ("abc", "abcdefghij"):
        table = LazyTable(players, lambda members: (luck < worth_of_many(members)).tolist())
        utility = LazyTable(players, lambda members, table=table: float(np.mean(table[members])))
        found = values_by_question(table, pairs=6)
        assert {player: own.mean() for player, own in found.items()} == pytest.approx(estimate_values(utility, pairs=6))
    sampled = {members: table[members] for members in table.known}
    assert values_by_question(sampled, pairs=6)["a"].tolist() == found["a"].tolist()
    with pytest.raises(DataError, match="coalitions have no score"):
        values_by_question(sampled, pairs=7)


def test_up_to_eight_players_are_valued_exactly():
    utility = random_game(EXACT_PLAYERS, seed=2)
    assert estimate_values(utility, pairs=1) == shapley_values(utility)
    many = LazyTable("abcdefghi", worth_of_many)
    sampled = sampled_values(worth_of_many, list("abcdefghi"), pairs=3)
    assert estimate_values(many, pairs=3) == {p: one.value for p, one in sampled.items()}


def test_a_lazy_table_holds_every_coalition_and_computes_each_once():
    asked = []
    table = LazyTable("ba", lambda members: asked.append(members) or len(members))
    assert list(table) == list(coalitions("ab"))
    assert len(table) == 4
    assert not asked
    assert [table[frozenset("a")], table[frozenset("a")]] == [1, 1]
    assert asked == [frozenset("a")]
    assert frozenset("c") not in table
    assert dict(table) == {members: len(members) for members in coalitions("ab")}
    assert len(asked) == 4
