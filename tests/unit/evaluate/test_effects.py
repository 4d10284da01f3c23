"""Intervals over questions and seeds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from fcotvl.core.bootstrap import Bootstrap, Questions, difference_interval, retention_interval
from fcotvl.evaluate.effects import KNEE_POINTS, _resampled, effect, knee, retained


def draw(rng, *, seeds, images=200, per_image=2, between_seeds=0.0, shift=0.0):
    """Rows with shared luck of images and of seeds, and the image of each question."""
    luck = rng.normal(size=images).repeat(per_image)
    own = rng.normal(size=(seeds, images * per_image)) + between_seeds * rng.normal(size=(seeds, 1))
    return shift + luck + own, np.arange(images).repeat(per_image).tolist()


def test_independent_questions_of_one_run_have_the_interval_of_a_t_test():
    values = np.random.default_rng(0).normal(3, 2, size=50)
    found = effect(values[None], range(50), ["doc"] * 50)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert (found.value, found.questions, found.seeds) == (pytest.approx(values.mean()), 50, 1)


def test_questions_of_one_image_count_as_one():
    values = np.random.default_rng(1).normal(size=40)
    single = effect(values[None], range(40), ["doc"] * 40)
    repeated = effect(values.repeat(5)[None], np.arange(40).repeat(5).tolist(), ["doc"] * 200)
    assert (repeated.low, repeated.high) == (pytest.approx(single.low), pytest.approx(single.high))


def test_seeds_alone_have_the_interval_of_a_t_test_over_seeds():
    by_seed = np.array([1.0, 2.0, 4.0])
    found = effect(np.tile(by_seed[:, None], (1, 30)), range(30), ["doc"] * 30)
    low, high = stats.ttest_1samp(by_seed, 0).confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_families_count_the_same_whatever_their_numbers_of_questions():
    rows = np.array([[1.0, 2.0, 3.0, 11.0, 13.0]])
    found = effect(rows, range(5), ["a"] * 3 + ["b"] * 2)
    assert found.value == pytest.approx((2 + 12) / 2)
    parts = [stats.sem([1, 2, 3]) ** 2, stats.sem([11, 13]) ** 2]
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, 3) * math.sqrt(sum(parts)) / 2)


def test_it_agrees_with_the_bootstrap_over_images():
    rng = np.random.default_rng(2)
    teacher = (rng.random(1200) < 0.8).astype(float)
    student = np.where(rng.random(1200) < 0.9, teacher, 1 - teacher)
    images, families = np.arange(600).repeat(2).tolist(), ["doc"] * 1200
    bootstrap = Bootstrap(resamples=4000)
    asked = Questions(images)
    for found, expected in (
        (effect((student - teacher)[None], images, families), difference_interval(student, teacher, asked, bootstrap)),
        (
            effect(retained(student[None], teacher, families) / 100, images, families),
            retention_interval(student, teacher, asked, bootstrap),
        ),
    ):
        assert found.value == pytest.approx(expected.value)
        assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.06)


@pytest.mark.parametrize("between_seeds", [0.0, 0.1, 1.0])
def test_intervals_of_three_seeds_hold_the_truth_in_at_least_95_of_100_cases(between_seeds):
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(400):
        rows, images = draw(rng, seeds=3, images=60, between_seeds=between_seeds, shift=0.5)
        found = effect(rows, images, ["doc"] * len(images))
        hits += found.low <= 0.5 <= found.high
    assert hits >= 0.93 * 400


def test_a_detectable_effect_is_seen_in_8_of_10_cases():
    rng = np.random.default_rng(4)
    detectable = np.mean([effect(*draw(rng, seeds=1), ["doc"] * 400).detectable for _ in range(50)])
    found = [effect(*draw(rng, seeds=1, shift=detectable), ["doc"] * 400) for _ in range(400)]
    assert np.mean([one.low > 0 for one in found]) == pytest.approx(0.8, abs=0.06)


def test_a_detectable_effect_of_few_seeds_has_the_power_of_a_t_test():
    rng = np.random.default_rng(7)
    for seeds in (3, 4, 8):
        rows = np.tile(np.arange(seeds, dtype=float)[:, None], (1, 30))
        size = effect(rows, range(30), ["doc"] * 30).detectable / np.arange(seeds).std(ddof=1)
        drawn = rng.normal(size, 1, (100_000, seeds))
        ratios = drawn.mean(axis=1) / stats.sem(drawn, axis=1)
        assert np.mean(ratios > stats.t.ppf(0.975, seeds - 1)) == pytest.approx(0.8, abs=0.005)


def test_retention_is_the_ratio_of_the_macro_means():
    student, teacher = np.array([[1.0, 0.0, 1.0]]), np.array([1.0, 1.0, 0.5])
    rows = retained(student, teacher, ["a", "a", "b"])
    assert effect(rows, range(3), ["a", "a", "b"]).value == pytest.approx(100 * (0.5 + 1) / (1 + 0.5))
    assert np.isnan(retained(student, np.zeros(3), ["a", "a", "b"])).all()


@given(st.integers(1, 4), st.integers(2, 12), st.floats(-5, 5), st.floats(0.1, 3))
def test_shift_and_unit_move_the_interval_with_them(seeds, questions, shift, unit):
    rows = np.random.default_rng(questions).normal(size=(seeds, questions))
    families = ["a", "b"] * questions
    before = effect(np.hstack([rows, rows]), range(2 * questions), families)
    after = effect(unit * np.hstack([rows, rows]) + shift, range(2 * questions), families)
    assert after.value == pytest.approx(unit * before.value + shift)
    assert after.high == pytest.approx(unit * before.high + shift)
    assert after.detectable == pytest.approx(unit * before.detectable)


def test_without_questions_there_is_none():
    with pytest.raises(ValueError, match="0 numbers of 0 questions"):
        effect(np.empty((1, 0)), [], [])


def test_one_image_leaves_the_interval_open():
    found = effect(np.array([[1.0, 0.0]]), [7, 7], ["doc", "doc"])
    assert found.value == 0.5
    assert math.isinf(found.high)


PLACES = np.array([0, 0.25, 0.5, 0.75, 0.875])
FAMILIES = ["a"] * 300 + ["b"] * 300


def broken(join, before, after):
    """Mean scores on two lines that meet at ``join``."""
    return 90 + before * PLACES + (after - before) * np.maximum(PLACES - join, 0)


def draw_curve(means, *, noise=0.0, between_seeds=0.0, seed=0):
    """Scores [point, seed, question] about ``means``, two questions an image; and the image of each question."""
    rng = np.random.default_rng(seed)
    images = np.arange(300).repeat(2)
    rows = means[:, None, None] + between_seeds * rng.normal(size=(5, 3, 1))
    return rows + noise * (rng.normal(size=(5, 3, 600)) + rng.normal(size=300)[images]), images.tolist()


@pytest.mark.parametrize("join", [0.3, 0.5, 0.61])
def test_the_knee_of_an_exact_broken_line_is_where_it_breaks(join):
    found = knee(PLACES, *draw_curve(broken(join, -10, -130)), FAMILIES)
    assert found.exists
    assert found.place.value == pytest.approx(join)
    assert (found.before.value, found.after.value) == (pytest.approx(-10), pytest.approx(-130))
    assert (found.place.low, found.place.high) == (pytest.approx(join), pytest.approx(join))
    assert (found.bend.questions, found.bend.seeds) == (600, 3)


def test_the_interval_of_the_knee_holds_the_true_one_in_at_least_95_of_100_cases():
    curves = [draw_curve(broken(0.6, -10, -130), noise=15, between_seeds=0.5, seed=seed) for seed in range(60)]
    found = [knee(PLACES, *curve, FAMILIES) for curve in curves]
    assert all(one.exists for one in found)
    assert np.mean([one.place.low <= 0.6 <= one.place.high for one in found]) >= 0.93
    assert np.mean([one.place.high - one.place.low for one in found]) < 0.1
    assert np.mean([one.before.low <= -10 <= one.before.high for one in found]) >= 0.93


@pytest.mark.parametrize("after", [-10, 30])
def test_a_straight_line_and_one_that_flattens_have_no_knee(after):
    curves = [draw_curve(broken(0.5, -10, after), noise=15, between_seeds=0.5, seed=seed) for seed in range(40)]
    assert sum(knee(PLACES, *curve, FAMILIES).exists for curve in curves) <= 2
    assert not knee(PLACES, *draw_curve(broken(0.5, -10, after)), FAMILIES).exists
    assert not knee(PLACES, *draw_curve(np.full(5, 100.0)), FAMILIES).exists


def test_no_other_join_fits_better():
    curve, images = draw_curve(broken(0.6, -10, -130), between_seeds=4, seed=5)

    def residual(join):
        design = np.stack([np.ones(5), PLACES, np.maximum(PLACES - join, 0)], axis=1)
        return np.linalg.lstsq(design, curve.mean(axis=(1, 2)), rcond=None)[1].sum()

    (best,) = optimize.brute(residual, ((0.25, 0.75),), Ns=51)  # there are several minima
    assert knee(PLACES, curve, images, FAMILIES).place.value == pytest.approx(best, abs=0.001)


def test_resamples_vary_as_means_over_few_seeds_and_over_images_do():
    only_seeds, images = draw_curve(PLACES, between_seeds=1.0)
    spread = _resampled(only_seeds, images, FAMILIES, Bootstrap()).std(axis=0)
    assert spread == pytest.approx(stats.sem(only_seeds[:, :, 0], axis=1), rel=0.05)
    noise, images = draw_curve(PLACES, noise=10)
    one_seed = noise[:, :1]
    spread = _resampled(one_seed, images, FAMILIES, Bootstrap()).std(axis=0)
    by_image = one_seed.reshape(5, 300, 2).mean(axis=2)
    errors = [np.hypot(stats.sem(row[:150]), stats.sem(row[150:])) / 2 for row in by_image]
    assert spread == pytest.approx(errors, rel=0.05)


def test_too_few_points_have_no_knee():
    curve, images = draw_curve(broken(0.5, -10, -130))
    with pytest.raises(ValueError, match=f"4 points have no knee; at least {KNEE_POINTS}"):
        knee(PLACES[1:], curve[1:], images, FAMILIES)
