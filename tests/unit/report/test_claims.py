"""Verdicts follow from intervals, and a claim that fails is reported as failing."""

from dataclasses import replace

import pandas as pd
import pytest

from fcotvl.report.claims import (
    FAILS,
    HOLDS,
    UNDECIDED,
    UNTESTED,
    beats_training_free,
    claims,
    cnn_beats_qformer,
    is_faster,
    loss_is_small,
    merging_helps,
    post_training_wins_back,
)


def moved(table, value, low, high, column):
    return table.assign(**{column: value, "low": low, "high": high})


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.5, 9.0, HOLDS), (-3.0, -0.5, FAILS), (-1.0, 4.0, UNDECIDED), (0.0, 0.0, FAILS)],
)
def test_a_difference_is_judged_by_its_whole_interval(inputs, low, high, verdict):
    table = moved(inputs.differences, (low + high) / 2, low, high, "difference")
    for claim in (post_training_wins_back, beats_training_free, merging_helps):
        assert claim(replace(inputs, differences=table)).verdict == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(95.5, 101.0, HOLDS), (80.0, 94.0, FAILS), (90.0, 99.0, UNDECIDED)],
)
def test_a_small_loss_keeps_95_percent(inputs, low, high, verdict):
    table = moved(inputs.retention, (low + high) / 2, low, high, "retention")
    claim = loss_is_small(replace(inputs, retention=table))
    assert claim.verdict == verdict
    assert "50 % of the visual tokens" in claim.title
    assert len(claim.evidence) == 3


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.40, 0.60, HOLDS), (0.70, 0.90, FAILS), (0.50, 0.80, UNDECIDED)],
)
def test_faster_means_one_and_a_half_times_in_wall_clock_time(inputs, low, high, verdict):
    table = inputs.speed.assign(time=(low + high) / 2, low=low, high=high)
    claim = is_faster(replace(inputs, speed=table))
    assert claim.verdict == verdict
    assert [item.what for item in claim.evidence] == ["total, 50 % removed"]


def test_the_speed_of_pruning_is_not_the_speed_of_the_student(inputs):
    pruned = inputs.speed[inputs.speed["system"] == "fastv-r0.5"]
    assert is_faster(replace(inputs, speed=pruned)).verdict == UNTESTED


def test_both_starts_of_the_cnn_must_beat_the_qformer(inputs):
    claim = cnn_beats_qformer(inputs)
    assert claim.verdict == HOLDS
    assert len(claim.evidence) == 4
    table = inputs.grid_differences.copy()
    worse = (table["compressor"] == "cnn-default") & (table["ratio"] == 0.75)
    table.loc[worse, ["difference", "low", "high"]] = [-5.0, -9.0, -1.0]
    failed = cnn_beats_qformer(replace(inputs, grid_differences=table))
    assert failed.verdict == FAILS
    verdicts = [item.verdict for item in failed.evidence]
    assert (verdicts.count(HOLDS), verdicts.count(FAILS)) == (3, 1)


def test_one_failing_benchmark_fails_the_claim(inputs):
    table = moved(inputs.differences, 5.0, 1.0, 9.0, "difference")
    table.loc[table["benchmark"] == "infovqa", ["low", "high"]] = [-9.0, -1.0]
    assert post_training_wins_back(replace(inputs, differences=table)).verdict == FAILS


def test_fastv_at_another_ratio_is_no_comparison(inputs):
    systems = inputs.systems[inputs.systems["system"] != "fastv-r0.5"]
    assert beats_training_free(replace(inputs, systems=systems)).verdict == UNTESTED


def test_rules_of_the_merge_are_rivals_too(inputs):
    systems = inputs.systems[inputs.systems["system"] != "uniform"]
    found = merging_helps(replace(inputs, systems=systems))
    assert sum(item.what.endswith("against: uniform") for item in found.evidence) == 3


def test_claims_without_data_are_not_tested_and_say_how_to(inputs):
    empty = replace(
        inputs,
        differences=inputs.differences.iloc[:0],
        retention=inputs.retention.iloc[:0],
        speed=None,
        grid_differences=None,
    )
    found = claims(empty)
    assert len(found) == 6
    assert {claim.verdict for claim in found} == {UNTESTED}
    assert all(claim.remedy for claim in found)


def test_claims_are_judged_under_direct_prompting_by_headline_metrics(inputs):
    table = inputs.retention.copy()
    other = (table["prompt"] == "cot") | ~table["headline"]
    table.loc[other, ["retention", "low", "high"]] = [1.0, 0.0, 2.0]
    table.loc[~other, ["retention", "low", "high"]] = [99.0, 98.0, 100.0]
    assert loss_is_small(replace(inputs, retention=table)).verdict == HOLDS


def test_nothing_is_retained_of_a_teacher_that_scores_nothing(inputs):
    table = moved(inputs.retention, *[float("nan")] * 3, "retention")
    claim = loss_is_small(replace(inputs, retention=table))
    assert claim.verdict == UNDECIDED
    assert {item.found for item in claim.evidence} == {"the teacher scores 0"}


def test_evidence_names_its_numbers(inputs):
    row = pd.DataFrame(inputs.differences).query(
        "system == 'shapley' and baseline == 'distilled' and prompt == 'direct' and headline"
    )
    first = post_training_wins_back(inputs).evidence[0]
    assert f"{row['difference'].iloc[0]:+.1f}" in first.found
    assert first.found.endswith("n = 60")
