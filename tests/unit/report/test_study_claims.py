"""Verdicts of the page of claims follow from scores over questions and seeds."""

import re
from dataclasses import replace

import pandas as pd
import pytest

from fcotvl.report.claims import FAILS, HOLDS, UNDECIDED, UNTESTED
from fcotvl.report.study import claims as judged
from fcotvl.report.study import tables
from fcotvl.report.study.data import DISTILLED, LONG, TEACHER, Cost, System
from fcotvl.report.study.page import render_page
from tests.support.studies import (
    ADAPTIVE,
    BEST,
    CURVE,
    FULL,
    HALF,
    PROMPTS,
    QUARTER,
    QUESTIONS,
    SHAPLEY,
    UNCHECKED,
    N,
    invented,
)


@pytest.fixture(scope="module")
def study():
    return invented()


@pytest.mark.parametrize(
    ("judge", "skills"),
    [
        (judged.half_keeps_all, {FULL: 0.6}),
        (judged.three_quarters_lose_more, {QUARTER: 0.97}),
        (judged.cnn_beats_qformer, {System("qformer", 0.5, DISTILLED, "less"): 0.97}),
        (judged.cnn_equals_pooling, {System("pool", 0.5, DISTILLED): 0.6}),
        (judged.beats_training_free, {System("fastv-equal-cost", 0.5): 0.98}),
        (judged.rationales_lift_reasoning, {System("cnn", 0.5, "sft-cot"): 0.5}),
        (judged.rejection_helps, {UNCHECKED: 0.97}),
        (judged.resampling_beats_static, {FULL: 0.5}),
        (judged.merging_helps, {SHAPLEY: 0.5}),
        (judged.merging_softens_the_see_saw, {SHAPLEY: {"docvqa": 0.97, "chartqa": 0.97, "infovqa": 0.3}}),
        (judged.reasoning_rises_perception_falls, {FULL: {"reason": 0.93, "extractive": 0.97}}),
    ],
)
def test_a_claim_holds_where_the_scores_say_so_and_fails_where_they_do_not(judge, skills):
    kept = {FULL: 0.93} if judge is judged.half_keeps_all else {}
    assert judge(invented(skills=kept), "direct").verdict == HOLDS
    assert judge(invented(skills=skills), "direct").verdict == FAILS


def test_what_half_of_the_tokens_keep_is_judged_of_the_student_that_was_trained_longest():
    longest = System("cnn", 0.5, LONG)
    claim = judged.half_keeps_all(invented(skills={FULL: 0.6, longest: 0.93}), "direct")
    assert [(item.subject, item.verdict, item.counts) for item in claim.evidence] == [
        (longest.label, HOLDS, True),
        (FULL.label, FAILS, False),
    ]
    assert claim.verdict == HOLDS
    assert "an extension of ours" in claim.criterion
    assert "an extension of ours" not in judged.half_keeps_all(invented(), "direct").criterion


def test_post_training_is_judged_of_the_papers_recipe_and_of_the_longest():
    skills = {FULL: {"reason": 0.93, "extractive": 0.83}, System("cnn", 0.5, LONG): 0.96}
    claim = judged.reasoning_rises_perception_falls(invented(skills=skills), "direct")
    assert [item.verdict for item in claim.evidence] == [HOLDS, HOLDS, HOLDS, FAILS]
    assert claim.evidence[3].subject == "cnn, recipe long: loss on what is written in the picture"


def test_every_claim_is_untested_without_students():
    scores = {key: found for key, found in invented().scores.items() if key[0] == TEACHER}
    assert {c.verdict for c in judged.claims(invented(scores=scores, speed=pd.DataFrame()), "cot")} == {UNTESTED}


def test_what_is_undecided_says_what_could_have_been_seen():
    skills = {FULL: 0.8, System("cnn", 0.5, "sft-cot"): 0.8, System("cnn", 0.5, LONG): 0.88, HALF: 0.87}
    cases = {"resampling_beats_static": "", "half_keeps_all": " from 98", "cnn_equals_pooling": " beyond 2"}
    for judge, beyond in cases.items():
        item = getattr(judged, judge)(invented(skills=skills), "direct").evidence[0]
        assert item.verdict == UNDECIDED
        assert re.search(rf", n = 1,200, 3 seeds; \d\.\d points{beyond} could have been seen$", item.result)


def test_training_free_systems_are_judged_at_the_students_cost_and_left_out_where_there_is_none():
    claim = judged.beats_training_free(invented(skills={System("fastv", 0.5): 0.98}), "direct")
    assert [(item.subject, item.verdict, item.counts) for item in claim.evidence] == [
        ("FastV at the student's cost, at the cost of cnn, recipe full, 50 % removed", HOLDS, True),
        ("FastV, 50 % removed too, 1.48 times the student's prefill FLOPs", FAILS, False),
    ]
    assert claim.verdict == HOLDS


@pytest.mark.parametrize("cheaper", [0.5, 0.44])
def test_between_two_ratios_a_system_scores_what_it_does_where_questions_draw_one_of_them(cheaper):
    most = System("fastv", 0.75)
    study = invented(skills={most: 0.5})
    study = replace(study, costs=study.costs | {most: Cost(cheaper, 0.5)})
    share = (0.5 - cheaper) / (0.74 - cheaper)
    student, half, less = (study.scores[one, "cot"].rows.mean() for one in (FULL, System("fastv", 0.5), most))
    found = study.at_equal_cost(FULL, "fastv", "cot")
    assert found.value == pytest.approx(student - share * half - (1 - share) * less)
    assert (found.questions, found.seeds) == (3 * N, 3)
    assert study.at_equal_cost(FULL, "divprune", "cot") is None


def test_a_system_of_the_same_cost_or_the_dearest_is_judged_as_it_is():
    for cost in (0.74, 1.2):
        study = invented()
        study = replace(study, costs=study.costs | {FULL: Cost(cost, 1)})
        expected = study.difference(FULL, System("fastv", 0.5), "cot").value
        assert study.at_equal_cost(FULL, "fastv", "cot").value == pytest.approx(expected)


@pytest.mark.parametrize("judge", [judged.merging_helps, judged.merging_softens_the_see_saw])
def test_a_control_stands_beside_the_pool_that_is_judged(judge):
    (pool,) = invented().pools
    control = replace(pool, title="One run", control=True, methods={"shapley": BEST, "best": SHAPLEY})
    claim = judge(invented(pools=(control, pool)), "direct")
    assert [(item.verdict, item.counts) for item in claim.evidence] == [(FAILS, False), (HOLDS, True)]
    assert claim.evidence[0].subject.startswith("One run: ")
    assert claim.verdict == HOLDS


def test_speed_is_judged_for_the_llm_and_for_whole_answers_apart(study):
    claim = judged.is_faster(study, "direct")
    assert [item.verdict for item in claim.evidence] == [HOLDS, UNDECIDED, FAILS]
    assert claim.evidence[0].subject == "internvl2-1b: LLM up to the first token, 50 % removed"
    assert claim.evidence[0].result == "2.50 [1.67, 3.33] times as fast"
    # 2 + 2 + 2 s become 2 + 1 + 0.8, and with four times eight tokens 14 s become 11.
    assert claim.evidence[1].result.startswith(f"{6 / 3.8:.2f} [")
    assert claim.evidence[2].result.startswith(f"{14 / 11:.2f} [")
    assert (claim.prompt, claim.table) == ("", "speed")


def test_speed_is_judged_at_each_shape(study):
    slower = study.speed.assign(shape="internvl2-2b", measured=1.0, low=1.0, high=1.0)
    claim = judged.is_faster(replace(study, speed=pd.concat([study.speed, slower])), "direct")
    assert [item.verdict for item in claim.evidence] == [HOLDS, UNDECIDED, FAILS, FAILS, FAILS, FAILS]
    assert claim.evidence[3].subject.startswith("internvl2-2b: ")


def test_alike_is_decided_by_the_whole_interval():
    for shift, expected in {0.0: HOLDS, 0.2: FAILS, -0.2: FAILS}.items():
        study = invented(skills={System("pool", 0.5, DISTILLED): 0.75 + shift, HALF: 0.75})
        assert judged.cnn_equals_pooling(study, "cot").verdict == expected


def test_the_convolution_that_does_not_begin_as_pooling_stands_beside():
    claim = judged.cnn_equals_pooling(invented(skills={System("cnn-default", 0.5, DISTILLED): 0.3}), "cot")
    assert [(item.subject, item.verdict, item.counts) for item in claim.evidence] == [
        ("cnn and pool, 50 % removed", HOLDS, True),
        ("cnn-default and pool, 50 % removed", FAILS, False),
    ]
    assert claim.verdict == HOLDS


def adapted(skill, *, share=0.4):
    """A study whose adaptive student removes ``share`` of the infographics, where cnn loses most."""
    worst = {"docvqa": 0.89, "chartqa": 0.89, "infovqa": 0.6}
    skills = CURVE | {HALF: worst, ADAPTIVE: worst | {"infovqa": skill}}
    return invented(skills=skills, removed={(ADAPTIVE, "infovqa"): share, (ADAPTIVE, "chartqa"): 0.6})


def test_adaptive_is_judged_where_most_is_lost_at_its_ratio_and_at_its_real_share():
    claim = judged.adaptive_beats_fixed(adapted(0.88), "direct")
    assert [item.subject for item in claim.evidence] == [
        "50 % on average, all benchmarks: adaptive removes 50 %",
        "50 % on average, InfographicVQA: adaptive removes 40 %",
        "50 % on average, InfographicVQA: cnn removes 40 % too",
    ]
    assert claim.verdict == HOLDS
    # Beside a cnn that removes 40 % and scores 0.72, what the same ratio gains is lost.
    mixed = judged.adaptive_beats_fixed(adapted(0.65), "direct")
    assert [item.verdict for item in mixed.evidence] == [HOLDS, HOLDS, FAILS]


def test_the_share_between_two_ratios_is_on_a_straight_line():
    study = adapted(0.8)
    effect = study.at_equal_share(ADAPTIVE, "cnn", "cot", ["infovqa"])
    here = (QUESTIONS["benchmark"] == "infovqa").to_numpy()
    quarter, half, own = (
        study.scores[system, "cot"].rows[:, here].mean() for system in (next(iter(CURVE)), HALF, ADAPTIVE)
    )
    assert effect.value == pytest.approx(own - (0.4 * quarter + 0.6 * half))
    assert (effect.questions, effect.seeds) == (N, 3)
    same = adapted(0.8, share=0.5).at_equal_share(ADAPTIVE, "cnn", "cot", ["infovqa"])
    assert same.value == pytest.approx(own - half)
    assert adapted(0.8, share=0.9).at_equal_share(ADAPTIVE, "cnn", "cot", ["infovqa"]) is None


def test_open_questions_are_shown_but_not_counted():
    study = adapted(0.88)
    page = render_page(study, [], {})
    assert "A ratio that adapts to the picture beats a fixed one" in page
    counts = [int(n) for n in re.findall(r'<span class="badge [a-z-]+">[a-z ]+: (\d+)</span>', page)]
    assert sum(counts) == len(PROMPTS) * len(judged.CLAIMS)
    assert tables.adaptive(study, "direct").shown["Really removed"].tolist() == ["50 %", "50 %", "60 %", "40 %"]
