"""Means, differences and retentions of tables of scores."""

import pandas as pd
import pytest

from fcotvl.evaluate.scoring import score_predictions
from fcotvl.evaluate.summary import compare, retention, summarise


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
