"""Intervals against cases whose answer is known."""

import math

import numpy as np
import pytest

from fcotvl.core.bootstrap import (
    Bootstrap,
    Questions,
    difference_interval,
    mean_interval,
    mean_intervals,
    retention_interval,
)


def test_agrees_with_the_normal_interval_when_every_image_has_one_question():
    scores = np.random.default_rng(1).random(2000)
    found = mean_interval(scores, Questions(range(2000)))
    error = 1.96 * scores.std() / math.sqrt(2000)
    assert found.value == pytest.approx(scores.mean())
    assert found.low == pytest.approx(scores.mean() - error, abs=0.1 * error)
    assert found.high == pytest.approx(scores.mean() + error, abs=0.1 * error)
    assert found.n == 2000


def test_repeating_a_question_about_an_image_adds_no_certainty():
    scores = np.random.default_rng(2).random(100)
    once = mean_interval(scores, Questions(range(100)))
    tenfold = mean_interval(np.repeat(scores, 10), Questions(np.repeat(range(100), 10).tolist()))
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))
    assert tenfold.n == 1000


def test_a_paired_difference_is_more_certain_than_two_scores():
    rng = np.random.default_rng(3)
    hard = rng.random(300)
    scores, baseline = hard + 0.05, hard + rng.normal(0, 0.01, 300)
    questions = Questions(range(300))
    found = difference_interval(scores, baseline, questions)
    alone = mean_interval(scores, questions)
    assert found.low < 0.05 < found.high
    assert found.high - found.low < (alone.high - alone.low) / 10


def test_a_system_differs_from_itself_by_exactly_zero_and_retains_all():
    scores = np.random.default_rng(4).random(50)
    questions = Questions(range(50))
    same = difference_interval(scores, scores, questions)
    kept = retention_interval(scores, scores, questions)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert (kept.value, kept.low, kept.high) == (1, 1, 1)


def test_retention_is_undefined_where_the_teacher_scores_zero():
    kept = retention_interval([0.5, 0.5], [0, 0], Questions([1, 2]))
    assert math.isnan(kept.value)
    assert math.isnan(kept.low)


def test_strata_count_the_same_whatever_their_size():
    scores, halves = [1] * 10 + [0] * 90, ["human"] * 10 + ["augmented"] * 90
    found = mean_interval(scores, Questions(range(100), halves))
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_a_resample_without_one_half_is_the_other_half():
    found = mean_interval([1, 0], Questions([1, 2], ["human", "augmented"]))
    assert (found.value, found.low, found.high) == (0.5, 0, 1)


def test_the_seed_decides_and_the_level_widens():
    scores = np.random.default_rng(5).random(40)
    questions = Questions(range(40))
    assert mean_interval(scores, questions) == mean_interval(scores, questions)
    assert mean_interval(scores, questions, Bootstrap(seed=1)) != mean_interval(scores, questions)
    wide = mean_interval(scores, questions, Bootstrap(level=0.99))
    narrow = mean_interval(scores, questions, Bootstrap(level=0.5))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(("scores", "images"), [([], []), ([1, 0], [1])])
def test_scores_without_questions_have_no_interval(scores, images):
    with pytest.raises(ValueError, match="have no interval"):
        mean_interval(scores, Questions(images))


def test_many_means_equal_the_means_one_by_one():
    rng = np.random.default_rng(6)
    rows, images = rng.random((3, 90)), rng.integers(30, size=90).tolist()
    found = mean_intervals(np.vstack([rows, rows[0] - rows[1]]), images)
    questions = Questions(images)
    alone = [mean_interval(row, questions) for row in rows]
    alone.append(difference_interval(rows[0], rows[1], questions))
    for one, other in zip(found, alone, strict=True):
        assert one.n == other.n == 90
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


def test_resamples_are_drawn_one_after_another_from_the_seed():
    scores = np.random.default_rng(7).random(20)
    rng = np.random.default_rng(3)
    means = [scores[rng.integers(20, size=20)].mean() for _ in range(50)]
    (found,) = mean_intervals([scores], range(20), Bootstrap(resamples=50, level=0.9, seed=3))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.05, 0.95])))


@pytest.mark.parametrize(("rows", "images"), [([[]], []), ([[1, 0]], [1])])
def test_rows_without_questions_have_no_intervals(rows, images):
    with pytest.raises(ValueError, match="have no interval"):
        mean_intervals(rows, images)
