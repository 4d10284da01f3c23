"""Means, differences and retentions of tables of scores."""

from dataclasses import replace

import pandas as pd
import pytest

from fcotvl.core.bootstrap import BOOTSTRAP
from fcotvl.evaluate.scoring import score_predictions
from fcotvl.evaluate.summary import MEAN, compare, retention, summarise


def reply(question, prediction, references, **other):
    return {
        "system": "student",
        "benchmark": "docvqa",
        "prompt": "direct",
        "kind": "extractive",
        "image_id": question,
        "question_id": question,
        "prediction": prediction,
        "references": references,
    } | other


def scored(*replies):
    return score_predictions(pd.DataFrame(replies))


def test_the_summary_is_in_percent_with_its_interval_and_n():
    scores = scored(*(reply(str(i), "a" if i < 3 else "b", ["a"]) for i in range(4)))
    row = summarise(scores).set_index("metric").loc["anls"]
    assert (row["n"], row["score"], row["headline"]) == (4, 75, True)
    assert 0 <= row["low"] < 75 < row["high"] <= 100


def test_the_summary_can_be_split_by_kind():
    scores = scored(reply("1", "a", ["a"]), reply("2", "b", ["a"], kind="reason"))
    table = summarise(scores, by=["kind"])
    assert table[table["headline"]].set_index("kind")["score"].to_dict() == {"extractive": 100, "reason": 0}


def chart(question, prediction, source):
    return reply(question, prediction, ["5"], benchmark="chartqa", source=source)


def test_chartqa_is_the_mean_of_its_halves_where_both_are_there():
    human = [chart(f"h{i}", "5", "chartqa/human") for i in range(2)]
    augmented = [chart(f"a{i}", "9", "chartqa/augmented") for i in range(6)]
    both = summarise(scored(*human, *augmented))
    assert both.loc[both["headline"], "score"].tolist() == [50]
    one = summarise(scored(*augmented, *(chart(f"o{i}", "5", "other") for i in range(2))))
    assert one.loc[one["headline"], "score"].tolist() == [25]


def two_systems():
    students = [reply(str(i), "a" if i < 6 else "b", ["a"]) for i in range(10)]
    teachers = [reply(str(i), "a" if i < 8 else "b", ["a"], system="teacher") for i in range(12)]
    return scored(*students, *teachers)


def test_differences_are_paired_on_the_questions_both_were_asked():
    row = compare(two_systems(), [("student", "teacher")]).set_index("metric").loc["anls"]
    assert (row["n"], row["difference"]) == (10, pytest.approx(-20))
    assert row["low"] < -20 < row["high"] <= 0


def test_a_pair_with_an_absent_system_gives_no_row():
    table = compare(two_systems(), [("student", "fastv")])
    assert table.empty
    assert {"system", "baseline", "n", "difference", "low", "high"} <= set(table.columns)


def test_retention_is_in_percent_of_the_teacher():
    row = retention(two_systems(), "teacher").set_index("metric").loc["anls"]
    assert (row["system"], row["baseline"], row["retention"]) == ("student", "teacher", pytest.approx(75))
    assert row["low"] < 75 < row["high"] <= 100
    assert MEAN not in set(retention(two_systems(), "teacher")["benchmark"])


def test_retention_of_the_mean_is_that_of_the_macro_means():
    """DocVQA 6 of 8 against 8 of 8, ChartQA 1 of 2 against 1 of 2: (0.75 + 0.5) / (1 + 0.5)."""
    replies = [
        reply(f"{benchmark}-{i}", "a" if i < right else "b", ["a"], benchmark=benchmark, system=system)
        for benchmark, system, right, count in (
            ("docvqa", "teacher", 8, 8),
            ("docvqa", "student", 6, 8),
            ("chartqa", "teacher", 1, 2),
            ("chartqa", "student", 1, 2),
        )
        for i in range(count)
    ]
    table = retention(scored(*replies), "teacher")
    mean = table[table["benchmark"] == MEAN]
    assert len(mean) == 1
    row = mean.iloc[0]
    assert (row["prompt"], row["n"], row["headline"]) == ("direct", 10, True)
    assert row["retention"] == pytest.approx(100 * 1.25 / 1.5)
    assert row["low"] < row["retention"] < row["high"] <= 100
    again = retention(scored(*reversed(replies)), "teacher", bootstrap=replace(BOOTSTRAP, seed=1))
    assert again.loc[again["benchmark"] == MEAN, "retention"].iloc[0] == pytest.approx(row["retention"])
