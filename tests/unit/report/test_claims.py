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
    post_training_recovers,
)


def moved(table, value, low, high, column):
    return table.assign(**{column: value, "low": low, "high": high})


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.5, 9.0, HOLDS),
        (-3.0, -0.5, FAILS),
        (-1.0, 4.0, UNDECIDED),
        (0.0, 1.5, UNDECIDED),
        (-1.5, 0.0, UNDECIDED),
        (0.0, 0.0, FAILS),
    ],
)
def test_a_difference_is_judged_by_its_whole_interval(report, low, high, verdict):
    table = moved(report.differences, (low + high) / 2, low, high, "difference")
    for claim in (post_training_recovers, beats_training_free, merging_helps):
        assert claim(replace(report, differences=table)).verdict == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(95.5, 101.0, HOLDS), (80.0, 94.0, FAILS), (90.0, 99.0, UNDECIDED)]
)
def test_a_small_loss_keeps_95_percent(report, low, high, verdict):
    table = moved(report.retention, (low + high) / 2, low, high, "retention")
    claim = loss_is_small(replace(report, retention=table))
    assert claim.verdict == verdict
    assert "50 % of the visual tokens" in claim.title
    assert len(claim.evidence) == 3


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.40, 0.60, HOLDS), (0.70, 0.90, FAILS), (0.50, 0.80, UNDECIDED)]
)
def test_faster_means_one_and_a_half_times_in_wall_clock_time(report, low, high, verdict):
    table = report.speed.assign(time=(low + high) / 2, low=low, high=high)
    claim = is_faster(replace(report, speed=table))
    assert claim.verdict == verdict
    assert [item.subject for item in claim.evidence] == ["total, 50 % removed"]


def test_the_speed_of_pruning_is_not_the_speed_of_the_student(report):
    pruned = report.speed[report.speed["system"] == "fastv-r0.5"]
    assert is_faster(replace(report, speed=pruned)).verdict == UNTESTED


def test_the_cnn_must_beat_the_qformer_with_both_initialisations(report):
    claim = cnn_beats_qformer(report)
    assert claim.verdict == HOLDS
    assert len(claim.evidence) == 4
    table = report.grid_differences.copy()
    worse = (table["compressor"] == "cnn-default") & (table["ratio"] == 0.75)
    table.loc[worse, ["difference", "low", "high"]] = [-5.0, -9.0, -1.0]
    failed = cnn_beats_qformer(replace(report, grid_differences=table))
    assert failed.verdict == FAILS
    verdicts = [item.verdict for item in failed.evidence]
    assert (verdicts.count(HOLDS), verdicts.count(FAILS)) == (3, 1)


def test_one_failing_benchmark_fails_the_claim(report):
    table = moved(report.differences, 5.0, 1.0, 9.0, "difference")
    table.loc[table["benchmark"] == "infovqa", ["low", "high"]] = [-9.0, -1.0]
    assert post_training_recovers(replace(report, differences=table)).verdict == FAILS


def test_fastv_is_compared_at_the_students_cost(report):
    claim = beats_training_free(report)
    assert claim.verdict == HOLDS
    assert {item.subject.partition(", ")[2] for item in claim.evidence} == {
        "against FastV at the student's cost, 50 % removed"
    }


@pytest.mark.parametrize("change", [{"ratio": 0.75}, {"tokens": 0}])
def test_fastv_at_another_ratio_or_without_a_token_is_not_compared(report, change):
    is_rival = report.systems["system"] == "fastv-equal-cost-r0.5"
    systems = report.systems.copy()
    systems.loc[is_rival, list(change)] = list(change.values())
    assert beats_training_free(replace(report, systems=systems)).verdict == UNTESTED


def test_merge_methods_are_rivals_too(report):
    systems = report.systems[report.systems["system"] != "uniform"]
    found = merging_helps(replace(report, systems=systems))
    assert sum(item.subject.endswith(", against Uniform soup of all checkpoints") for item in found.evidence) == 3


def test_claims_without_data_are_not_tested_and_say_how_to(report):
    empty = replace(
        report,
        differences=report.differences.iloc[:0],
        retention=report.retention.iloc[:0],
        speed=None,
        grid_differences=None,
    )
    found = claims(empty)
    assert len(found) == 6
    assert {claim.verdict for claim in found} == {UNTESTED}
    assert all(claim.remedy for claim in found)


def test_claims_are_judged_under_one_prompt_by_headline_metrics(report):
    table = report.retention.copy()
    other = (table["prompt"] == "cot") | ~table["headline"]
    table.loc[other, ["retention", "low", "high"]] = [1.0, 0.0, 2.0]
    table.loc[~other, ["retention", "low", "high"]] = [99.0, 98.0, 100.0]
    judged = replace(report, retention=table)
    assert loss_is_small(judged).verdict == HOLDS
    assert loss_is_small(judged, "cot").verdict == FAILS
    prompts = {claim.title: claim.prompt for claim in claims(judged, "cot")}
    assert prompts.pop("The compressed model is faster") == ""
    assert set(prompts.values()) == {"cot"}


def test_retention_of_a_teacher_that_scores_zero_is_undecided(report):
    table = moved(report.retention, *[float("nan")] * 3, "retention")
    claim = loss_is_small(replace(report, retention=table))
    assert claim.verdict == UNDECIDED
    assert {item.result for item in claim.evidence} == {"the teacher scores 0"}


def test_evidence_names_its_numbers(report):
    row = pd.DataFrame(report.differences).query(
        "system == 'shapley' and baseline == 'distilled' and prompt == 'direct' and headline"
    )
    first = post_training_recovers(report).evidence[0]
    assert f"{row['difference'].iloc[0]:+.1f}" in first.result
    assert first.result.endswith("n = 60")
