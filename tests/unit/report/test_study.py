"""The page of claims: verdicts follow from scores over questions and seeds."""

import inspect
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fcotvl.core.answers import is_correct
from fcotvl.report.claims import FAILS, HOLDS, UNDECIDED, UNTESTED
from fcotvl.report.study import claims as judged
from fcotvl.report.study import plots, tables
from fcotvl.report.study.data import DISTILLED, LONG, RIGHT, TEACHER, Cost, Pool, Scores, StudyData, System
from fcotvl.report.study.merging import regret, regret_effect, values_by_source
from fcotvl.report.study.page import render_page
from fcotvl.report.study.plots import all_plots
from fcotvl.report.study.tables import all_tables
from fcotvl.report.table import MISSING

BENCHMARKS = {"docvqa": "DocVQA", "chartqa": "ChartQA", "infovqa": "InfographicVQA"}
PROMPTS = ("direct", "cot")
N = 400
QUESTIONS = pd.DataFrame(
    [
        {
            "benchmark": name,
            "kind": ("extractive", "reason")[number % 2],
            "image_id": f"{name}-{number // 2}",
            "question_id": f"{name}-{number}",
        }
        for name in BENCHMARKS
        for number in range(N)
    ]
)
FULL, HALF, QUARTER = (
    System("cnn", ratio, stage) for ratio, stage in ((0.5, "sft-full"), (0.5, DISTILLED), (0.75, DISTILLED))
)
UNCHECKED = System("cnn", 0.5, "sft-unchecked")
ADAPTIVE = System("adaptive", 0.5, DISTILLED)
SHAPLEY, BEST = System("cnn", 0.5, "shapley"), System("cnn", 0.5, "best")
MEMBERS = {name: System("cnn", 0.5, f"full/{name}") for name in ("page", "chart")}
SKILLS = {
    TEACHER: 0.9,
    HALF: 0.89,
    QUARTER: {"docvqa": 0.8, "chartqa": 0.8, "infovqa": 0.6},
    System("pool", 0.5, DISTILLED): 0.89,
    System("qformer", 0.5, DISTILLED): 0.5,
    System("cnn", 0.5, DISTILLED, "less"): 0.8,
    System("qformer", 0.5, DISTILLED, "less"): 0.3,
    FULL: {"reason": 0.93, "extractive": 0.83},
    System("cnn", 0.5, "sft-direct"): {"reason": 0.7, "extractive": 0.9},
    System("cnn", 0.5, "sft-cot"): {"reason": 0.85, "extractive": 0.75},
    UNCHECKED: {"reason": 0.6, "extractive": 0.7},
    SHAPLEY: 0.95,
    BEST: 0.85,
    MEMBERS["page"]: {"docvqa": 0.92, "chartqa": 0.6, "infovqa": 0.6},
    MEMBERS["chart"]: {"docvqa": 0.6, "chartqa": 0.92, "infovqa": 0.7},
    System("fastv", 0.5): 0.7,
    System("fastv-equal-cost", 0.5): 0.4,
    System("fastv-equal-cost", 0.75): 0.99,
}
CURVE = {System("cnn", ratio, DISTILLED): 0.9 - 0.1 * ratio - max(0, ratio - 0.6) for ratio in (0.25, 0.5, 0.75, 0.875)}
"""Skills whose knee is at 60 %."""


def by_question(skill):
    """The skill for each question, where it differs by benchmark or by kind."""
    if isinstance(skill, float):
        return skill
    return np.maximum(*(QUESTIONS[key].map(skill).fillna(0).to_numpy() for key in ("benchmark", "kind")))


def coalitions():
    """Two checkpoints: each answers a fifth more of its own source, and page a tenth less of the other."""
    gain = {("page", "page"): 0.2, ("page", "chart"): -0.1, ("chart", "page"): 0.0, ("chart", "chart"): 0.2}
    rng = np.random.default_rng(0)
    rows = []
    for seed in (0, 1, 2):
        for members in ((), ("page",), ("chart",), ("chart", "page")):
            for source in ("page", "chart"):
                utility = 0.5 + sum(gain[member, source] for member in members)
                for number, luck in enumerate(rng.normal(0, 0.01, 200)):
                    names = {"image_id": f"{source}-{number // 2}", "question_id": f"{source}-{number}"}
                    row = {"seed": seed, "coalition": "+".join(members), "source": source, **names}
                    rows.append(row | {"utility": utility + luck})
    return pd.DataFrame(rows)


def invented(**changes):
    """A study whose systems answer the questions that are easy enough for them, with luck of its own for each seed."""
    rng = np.random.default_rng(0)
    hard = rng.random(len(QUESTIONS))
    scores = {}
    for system, skill in (SKILLS | changes.pop("skills", {})).items():
        seeds = (0, 1, 2) if system.stage else ()
        luck = rng.normal(0, 0.03, (max(1, len(seeds)), len(QUESTIONS)))
        rows = 100.0 * (hard + luck < by_question(skill))
        scores |= {(system, prompt): Scores(seeds, rows) for prompt in PROMPTS}
    costs = dict.fromkeys(SKILLS, Cost(0.5, 0.6)) | {TEACHER: Cost(1, 1), System("fastv", 0.5): Cost(0.74, 0.8)}
    costs |= {QUARTER: Cost(0.3, 0.4), System("fastv-equal-cost", 0.75): Cost(0.31, 0.4)}
    steps = pd.DataFrame({"step": [1, 2, 3], "pictures": [8, 16, 24], "kl": [2.0, 1.0, 0.5]})
    losses = pd.concat([steps.assign(scale="", compressor=c, ratio=0.5, seed=0) for c in ("cnn", "qformer")])
    parts = {
        "vit": (1.0, 1.0, 1.0),
        "connector": (0.5, 0.5, 0.5),
        "prefill": (0.4, 0.3, 0.6),
        "decode": (0.9, 0.8, 1.0),
    }
    speed = pd.DataFrame(
        {"system": "all" if part == "vit" else "cnn 0.5", "part": part, "predicted": 0.5, "teacher": 2.0}
        | dict(zip(("measured", "low", "high"), ratios, strict=True))
        for part, ratios in parts.items()
    )
    study = StudyData(
        facts={"scale": "<small>"},
        grids=("Compressors: compressor cnn, qformer.",),
        benchmarks=BENCHMARKS,
        questions=dict.fromkeys(PROMPTS, QUESTIONS),
        scores=scores,
        losses=losses,
        costs=costs,
        shares={"less": 0.25},
        speed=speed,
        shape="a shape",
        pools=(Pool("Two runs", {"shapley": SHAPLEY, "best": BEST}, MEMBERS, coalitions()),),
    )
    return replace(study, **changes)


@pytest.fixture(scope="module")
def study():
    return invented()


def found(claim, subject):
    """The evidence whose subject begins like this."""
    return next(item for item in claim.evidence if item.subject.startswith(subject))


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
    assert [item.subject for item in claim.evidence] == [longest.label]
    assert claim.verdict == HOLDS


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


def test_fastv_is_judged_at_the_students_cost_and_left_out_where_there_is_none(study):
    claim = judged.beats_training_free(study, "direct")
    subjects = [item.subject for item in claim.evidence]
    assert subjects[0] == "FastV at the student's cost, 50 % removed, 1.00 times the student's prefill FLOPs"
    assert subjects[1] == "FastV, 50 % removed, 1.48 times the student's prefill FLOPs"
    assert len(subjects) == 2


def test_speed_is_judged_for_the_llm_and_for_whole_answers_apart(study):
    claim = judged.is_faster(study, "direct")
    assert [item.verdict for item in claim.evidence] == [HOLDS, UNDECIDED, FAILS]
    assert claim.evidence[0].result == "2.50 [1.67, 3.33] times as fast"
    # 2 + 2 + 2 s become 2 + 1 + 0.8, and with four times eight tokens 14 s become 11.
    assert claim.evidence[1].result.startswith(f"{6 / 3.8:.2f} [")
    assert claim.evidence[2].result.startswith(f"{14 / 11:.2f} [")
    assert (claim.prompt, claim.table) == ("", "speed")


def test_alike_is_decided_by_the_whole_interval():
    for shift, expected in {0.0: HOLDS, 0.2: FAILS, -0.2: FAILS}.items():
        study = invented(skills={System("pool", 0.5, DISTILLED): 0.75 + shift, HALF: 0.75})
        assert judged.cnn_equals_pooling(study, "cot").verdict == expected


def test_differences_are_paired_by_seed_and_question(study):
    one, other = study.scores[HALF, "direct"].rows, study.scores[System("pool", 0.5, DISTILLED), "direct"].rows
    effect = study.difference(HALF, System("pool", 0.5, DISTILLED), "direct")
    assert effect.value == pytest.approx((one - other).mean())
    assert (effect.questions, effect.seeds) == (3 * N, 3)
    assert study.difference(HALF, TEACHER, "direct", kind="reason").questions == 3 * N / 2


def test_only_seeds_that_both_have_are_compared(study):
    scores = dict(study.scores)
    pool = System("pool", 0.5, DISTILLED)
    own = scores[pool, "direct"]
    scores[pool, "direct"] = Scores((1, 2), own.rows[1:])
    effect = invented(scores=scores).difference(HALF, pool, "direct")
    assert effect.value == pytest.approx((study.scores[HALF, "direct"].rows[1:] - own.rows[1:]).mean())
    assert effect.seeds == 2


def test_a_contrast_is_a_difference_of_differences(study):
    weights = {"infovqa": 1.0, "docvqa": -0.5, "chartqa": -0.5}
    effect = study.contrast({TEACHER: 1.0, QUARTER: -1.0}, "direct", weights)
    loss = {name: -study.difference(QUARTER, TEACHER, "direct", benchmark=name).value for name in BENCHMARKS}
    assert effect.value == pytest.approx(loss["infovqa"] - (loss["docvqa"] + loss["chartqa"]) / 2)


def test_regret_is_to_the_best_checkpoint_of_the_benchmark_that_suffers_most(study):
    found = regret(study, BEST, MEMBERS, "direct")
    scores = {
        benchmark: {s: study.score(s, "direct", benchmark=benchmark).value for s in (BEST, *MEMBERS.values())}
        for benchmark in BENCHMARKS
    }
    gaps = {name: max(own[m] for m in MEMBERS.values()) - own[BEST] for name, own in scores.items()}
    worst = max(gaps, key=gaps.get)
    assert (found.benchmark, found.best) == (worst, max(MEMBERS.values(), key=scores[worst].get))
    effect = regret_effect(study, found, "direct")
    assert effect.value == pytest.approx(gaps[worst])
    assert effect.low < effect.value < effect.high
    other = regret(study, SHAPLEY, MEMBERS, "direct")
    less = regret_effect(study, other, "direct", found)
    assert less.value == pytest.approx(effect.value - regret_effect(study, other, "direct").value)


def test_shapley_values_of_sources_may_differ_in_sign_and_their_mean_is_the_value():
    found = values_by_source(coalitions())
    expected = {("page", "page"): 20, ("page", "chart"): -10, ("chart", "page"): 0, ("chart", "chart"): 20}
    for key, value in expected.items():
        assert found[key].value == pytest.approx(value, abs=0.5)
        assert found[key].low < found[key].value < found[key].high
    assert found["page", None].value == pytest.approx((found["page", "page"].value + found["page", "chart"].value) / 2)


def test_tables_have_a_row_for_each_system_and_files_of_numbers(study):
    tables = {table.name: table for table in all_tables(study)}
    stems = ("scores", "retention", "modules", "pictures", "cost", "recipes", "kinds", "merging", "regret")
    alone = {"claims", "speed", "values"}
    assert set(tables) == alone | {f"{stem}-{prompt}" for stem in stems for prompt in PROMPTS}
    judged_direct = {claim.title: claim for claim in judged.claims(study, "direct")}
    assert tables["claims"].shown.set_index("Claim")["Direct answers"].to_dict() == {
        title: claim.verdict for title, claim in judged_direct.items()
    }
    evidence = tables["claims"].data.query("prompt == 'direct'").groupby("claim").size()
    assert evidence.to_dict() == {title: len(claim.evidence) for title, claim in judged_direct.items()}
    assert tables["pictures-direct"].shown["Pictures"].tolist() == ["25 %", "25 %", "100 %", "100 %"]
    mean = tables["retention-cot"].data.query(
        "benchmark == 'mean' and kind == 'cnn' and stage == 'distilled' and ratio == 0.5"
    )
    rows = study.scores[HALF, "cot"].rows
    assert mean["value"].item() == pytest.approx(100 * rows.mean() / study.scores[TEACHER, "cot"].rows.mean())
    assert tables["cost-direct"].shown["Prefill"].tolist() == sorted(tables["cost-direct"].shown["Prefill"])


def test_the_page_shows_every_claim_with_links_to_its_numbers_and_loads_nothing(study):
    tables, plots = all_tables(study), all_plots(study)
    assert set(plots) == {"ratios", "cost", "cache", "modules", "pictures", "distillation", "recipes", "values"}
    page = render_page(study, tables, plots)
    assert page.count('<article class="claim') == len(judged.CLAIMS) + len(judged.OPEN_QUESTIONS)
    links = set(re.findall(r'href="(tables/[^"]+\.csv)"', page))
    assert links <= {f"tables/{table.name}.csv" for table in tables}
    assert "tables/merging-cot.csv" in links
    assert "&lt;small&gt;" in page
    assert not re.search(r'(src|href)="(?!https://arxiv|data:|#|tables/|figures/)', page)


def test_the_table_says_where_the_knee_is_and_the_figure_shows_it():
    study = invented(skills=CURVE)
    table = tables.knees(study, "cot")
    found = table.data.set_index("part")
    assert found.loc["knee", "low"] < 60 < found.loc["knee", "high"] < found.loc["knee", "low"] + 15
    assert found.loc["before", "low"] < -1 < found.loc["before", "high"]
    assert found.loc["after", "low"] < -11 < found.loc["after", "high"]
    assert table.shown["System"].tolist() == ["cnn, distilled"]
    assert "between 25 % and 75 %" in table.note
    assert [label for label, _ in plots.by_ratio(study).keys][-1] == "Knee of cnn, distilled"


def test_a_straight_curve_has_no_knee_in_table_or_figure():
    study = invented(skills={system: 0.9 - 0.4 * system.ratio for system in CURVE})
    table = tables.knees(study, "cot")
    assert table.shown.loc[0, ["Knee", "Before"]].tolist() == ["none", MISSING]
    assert table.data["part"].tolist() == ["bend"]
    assert "Knee of cnn, distilled" not in dict(plots.by_ratio(study).keys)


def test_hard_questions_are_those_that_the_teacher_needs_the_whole_picture_for():
    scores = dict(invented().scores)
    teacher, smaller = np.full(len(QUESTIONS), 100.0), np.full(len(QUESTIONS), 100.0)
    teacher[::4] = 89.0  # left out, whatever the smaller picture says
    smaller[1::4] = 60.0  # ANLS of an answer with wrong letters is not 0
    for prompt in PROMPTS:
        scores[TEACHER, prompt] = Scores((), teacher[None])
        scores[System("downsample", 0.5), prompt] = Scores((), smaller[None])
    study = invented(scores=scores)
    groups = study.groups("direct", 0.5)
    assert np.flatnonzero(groups["hard"]).tolist() == list(range(1, len(QUESTIONS), 4))
    assert np.flatnonzero(groups["easy"]).tolist() == [n for n in range(len(QUESTIONS)) if n % 4 > 1]
    table = tables.hard(study, "direct")
    assert "50 % removed, 600 easy and 300 hard." in table.note
    assert not {"teacher", "downsample"} & set(table.data["kind"])
    assert set(table.data["ratio"]) == {0.5}
    found = table.data.query("kind == 'cnn' and stage == 'distilled'").set_index("group")
    rows = scores[HALF, "direct"].rows
    assert found.loc["hard", "value"] == pytest.approx(rows[:, 1::4].mean())
    assert found["questions"].to_dict() == {"easy": 600, "hard": 300}


def test_right_is_what_training_calls_right():
    assert 100 * inspect.signature(is_correct).parameters["min_similarity"].default == RIGHT


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


@pytest.mark.parametrize(
    ("system", "label"),
    [
        (System("cnn", 0.5, "runs/search"), "cnn, CMA-ES-weighted merge of runs"),
        (System("cnn", 0.5, "shapley"), "cnn, Shapley-weighted merge"),
        (System("cnn", 0.5, "best"), "cnn, best single checkpoint"),
        (System("cnn", 0.5, "runs/constant-step-00240"), "cnn, constant-step-00240 of runs"),
        (System("cnn", 0.5, DISTILLED), "cnn, distilled"),
        (System("cnn", 0.5, "sft-full"), "cnn, recipe full"),
    ],
)
def test_systems_are_named_as_in_a_sentence(system, label):
    assert system.label == label
