"""Effects, tables and figures of the page of claims."""

import inspect
import re

import numpy as np
import pytest

from fcotvl.core.answers import is_correct
from fcotvl.report.study import claims as judged
from fcotvl.report.study import plots, tables
from fcotvl.report.study.data import DISTILLED, RIGHT, TEACHER, Scores, System
from fcotvl.report.study.merging import regret, regret_effect, values_by_source
from fcotvl.report.study.page import render_page
from fcotvl.report.study.plots import all_plots
from fcotvl.report.study.tables import all_tables
from fcotvl.report.table import MISSING
from tests.support.studies import (
    BENCHMARKS,
    BEST,
    CURVE,
    HALF,
    MEMBERS,
    PROMPTS,
    QUARTER,
    QUESTIONS,
    SHAPLEY,
    N,
    coalitions,
    invented,
)


@pytest.fixture(scope="module")
def study():
    return invented()


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
    (row,) = tables["claims"].data.query("prompt == 'direct' and subject == 'distilled: 50 % above 75 %'").itertuples()
    apart = study.difference(HALF, QUARTER, "direct")
    assert (row.value, row.low, row.high, row.questions, row.seeds) == (
        *(apart.value, apart.low, apart.high),
        *(apart.questions, apart.seeds),
    )
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
