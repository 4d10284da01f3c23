"""Which tables a run has, and what they show."""

from dataclasses import replace

import pandas as pd
import pytest

from fcotvl.report import diagnostics, scores
from fcotvl.report.report_data import system
from fcotvl.report.table import MISSING, render
from fcotvl.report.tables import all_tables


def column(table, name):
    return dict(zip(table.shown.iloc[:, 0], table.shown[name], strict=True))


def value(report, name, benchmark, prompt):
    table = report.scores[report.scores["headline"]]
    row = table[(table["system"] == name) & (table["benchmark"] == benchmark) & (table["prompt"] == prompt)].iloc[0]
    return f"{row['score']:.1f} [{row['low']:.1f}, {row['high']:.1f}]"


def test_every_table_of_a_full_run_is_there_once(report):
    names = [table.name for table in all_tables(report)]
    by_prompt = ["results", "retention", "differences", "modules", "metrics", "kinds", "merge"]
    expected = [f"{name}-{prompt}" for name in by_prompt for prompt in ("direct", "cot")]
    expected += ["ablation-direct", "shapley", "speed", "audit", "acceptance"]
    assert sorted(names) == sorted(expected)


def test_every_table_has_rows_and_renders(report):
    for table in all_tables(report):
        assert len(table.shown), table.name
        assert len(table.data), table.name
        assert all(render(table).values()), table.name


def test_results_list_systems_by_role_with_scores_and_tokens(report):
    table = scores.results(report, "direct")
    labels = table.shown["System"].tolist()
    assert labels[:3] == ["Teacher", "Distilled student", "Fine-tuned, recipe direct"]
    assert labels[-1] == "Pooling, untrained, 50 % removed"
    assert column(table, "ChartQA")["Teacher"] == value(report, "teacher", "chartqa", "direct")
    assert column(table, "Tokens / tile")["FastV, 75 % removed"] == "16"
    assert "DocVQA 60, ChartQA 60, InfographicVQA 60" in table.note


def test_prompts_are_never_mixed(report):
    for table in all_tables(report):
        if table.name.endswith(("-direct", "-cot")):
            assert set(table.data["prompt"]) == {table.name.rpartition("-")[2]}


def test_only_the_headline_metric_is_in_results_and_every_metric_in_its_own_table(report):
    chart = scores.results(report, "direct").data.query("benchmark == 'chartqa'")
    assert set(chart["metric"]) == {"relaxed_internvl"}
    columns = scores.dialects(report, "direct").shown.columns
    dialects = {name for name in columns if name.startswith("ChartQA: relaxed")}
    assert len(dialects) == 4


def test_the_module_ablation_ends_with_the_headline_student(report):
    assert scores.modules(report, "direct").shown["System"].tolist() == [
        "Distilled student",
        "Fine-tuned, recipe direct",
        "Fine-tuned, recipe full",
        "Merged, shapley",
    ]


def test_differences_carry_their_sign(report):
    found = column(scores.differences(report, "direct"), "DocVQA")
    assert found["Merged, shapley vs Distilled student"].startswith("+")


def test_the_ablation_shows_both_initialisations_of_the_cnn(report):
    shown = scores.grid(report, "direct").shown
    assert set(shown["Compressor"]) == {"cnn", "cnn-default", "qformer"}
    assert set(shown["Removed"]) == {"50 %", "75 %"}
    assert scores.grid(report, "cot") is None


def test_a_benchmark_without_a_score_is_a_dash(report):
    kept = report.scores.query("not (system == 'teacher' and benchmark == 'docvqa')")
    table = scores.results(replace(report, scores=kept), "direct")
    assert column(table, "DocVQA")["Teacher"] == MISSING


def test_merge_methods_have_utility_and_benchmark_scores(report):
    table = diagnostics.methods(report, "direct")
    labels = ["Shapley-weighted merge", "Uniform soup of all checkpoints"]
    assert column(table, "Validation utility") == dict(zip(labels, ["71.0", "69.5"], strict=True))
    assert column(table, "DocVQA")[labels[1]] == value(report, "uniform", "docvqa", "direct")


def test_shapley_values_say_how_many_differences_are_noise(report):
    table = diagnostics.shapley(report)
    assert column(table, "Shapley value")["30"] == "+1.20 [-0.40, +2.90]"
    assert column(table, "Weight, shapley")["120"] == "0.353"
    assert "Of 2 differences between two checkpoints, 1 cannot be told from 0" in table.note


def test_the_speed_table_says_what_was_removed_of_its_images(report):
    assert "tiles" not in diagnostics.speed(report).note
    measured = report.speed.assign(removed=[0.515625, 0.515625, 0.515625, 0.0], tiles=40)
    note = diagnostics.speed(replace(report, speed=measured)).note
    assert "have 40 tiles; the student's prompts have 51.6 % fewer visual tokens" in note


def test_speed_is_a_ratio_to_the_teacher_beside_the_operations(report):
    row = diagnostics.speed(report).shown.iloc[2]
    assert row.tolist() == [*("Distilled student", "total", "0.61 [0.58, 0.64]", "1.64x"), *("0.57", "7")]


def test_the_audit_adds_up(report):
    table = diagnostics.composition(report).data
    dropped = table[["duplicates", "contaminated", "quarantined"]].sum(axis=1)
    assert (table["read"] == table["kept"] + dropped).all()
    assert len(table) == 18


def test_what_a_run_does_not_have_is_left_out(report):
    nothing = dict.fromkeys(["kinds", "grid", "methods", "shapley", "gaps", "speed", "audit", "acceptance"])
    names = {table.name.rpartition("-")[0] for table in all_tables(replace(report, **nothing))}
    assert names == {"results", "retention", "differences", "modules", "metrics"}
    none = report.differences.iloc[:0]
    assert scores.differences(replace(report, differences=none), "direct") is None


def test_an_unknown_role_is_refused():
    with pytest.raises(ValueError, match="role 'rival' is not one of teacher, distilled"):
        system("x", "rival", ratio=0.5, tokens=32)


def test_a_system_without_label_keeps_its_name(report):
    assert report.label("greedy") == "Greedy soup of checkpoints"
    assert report.label("top-two") == "top-two"
    assert report.label("fastv-r0.75") == "FastV, 75 % removed"


def test_tables_do_not_change_their_inputs(report):
    before = report.scores.copy()
    all_tables(report)
    pd.testing.assert_frame_equal(report.scores, before)
