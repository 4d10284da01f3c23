"""Tables of scores from tables of predictions."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fcotvl.core.errors import DataError, ParamsError
from fcotvl.evaluate.scoring import SCORE_COLUMNS, read_predictions, score_predictions


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


def test_one_row_per_reply_and_metric():
    scores = scored(reply("1", "paris", ["Paris"]), reply("2", "rome", ["Oslo"]))
    assert list(scores.columns) == SCORE_COLUMNS
    assert scores[["question_id", "metric", "score"]].values.tolist() == [
        ["1", "anls", 1.0],
        ["1", "exact_match", 1.0],
        ["2", "anls", 0.0],
        ["2", "exact_match", 0.0],
    ]


def test_a_chain_of_thought_is_scored_by_its_final_answer_and_a_direct_reply_as_it_stands():
    text = "The city is Paris.\nAnswer: Paris"
    scores = scored(reply("1", text, ["Paris"], prompt="cot"), reply("1", text, ["Paris"], prompt="direct"))
    exact = scores[scores["metric"] == "exact_match"].set_index("prompt")["score"]
    assert exact.to_dict() == {"cot": 1, "direct": 0}


def test_hidden_answers_are_left_out():
    hidden = reply("2", "x", []), reply("3", "x", None)
    assert scored(reply("1", "x", ["x"]), *hidden)["question_id"].unique().tolist() == ["1"]
    with pytest.raises(DataError, match=r"no prediction has references; .* run fcotvl submit"):
        scored(*hidden)


def test_predictions_survive_parquet(tmp_path):
    table = pd.DataFrame([reply("1", "paris", ["Paris", "París"]), reply("2", "a", [])])
    table.to_parquet(tmp_path / "predictions.parquet")
    back = pd.read_parquet(tmp_path / "predictions.parquet")
    pd.testing.assert_frame_equal(score_predictions(back), score_predictions(table))


def test_a_question_answered_twice_is_refused():
    with pytest.raises(DataError, match="1 questions are answered twice, the first is student / "):
        scored(reply("1", "a", ["a"]), reply("1", "b", ["a"]))


def test_a_missing_reply_is_refused():
    replies = reply("1", "a", ["a"]), reply("2", None, ["a"])
    with pytest.raises(DataError, match=r"1 questions are without a reply, .* direct / 2"):
        scored(*replies)


def test_a_missing_column_is_named():
    table = pd.DataFrame([reply("1", "a", ["a"])]).drop(columns="kind")
    with pytest.raises(DataError, match="no column 'kind'"):
        score_predictions(table)


def test_an_unknown_benchmark_is_refused():
    with pytest.raises(ParamsError, match="no benchmark 'other'"):
        scored(reply("1", "a", ["a"], benchmark="other"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"system": 5}, "column 'system' holds int in 1 rows, expected text"),
        ({"question_id": ["1"]}, "column 'question_id' holds list"),
        ({"prediction": 5}, "column 'prediction' holds int"),
        ({"references": "paris"}, "references are str 'paris', expected a list of texts"),
        ({"references": [5]}, r"references are list '\[5\]', expected a list of texts"),
        ({"references": 1.5}, "references are float '1.5'"),
    ],
)
def test_a_column_of_another_type_is_named(change, message):
    with pytest.raises(DataError, match=message):
        scored(reply("1", "a", ["a"]) | change)


@pytest.mark.parametrize("content", [None, b"", b"PAR1", b"PAR1" + b"\xff" * 99 + b"PAR1"])
def test_what_is_no_parquet_file_is_one_line(tmp_path, content):
    path = tmp_path / "predictions.parquet"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=r"is not a table of predictions \(.*\); run predict first") as caught:
        read_predictions(path)
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf_8_is_one_line(tmp_path):
    path = tmp_path / "predictions.parquet"
    pq.write_table(pa.table({"system": pa.array([b"a", b"\xdb"]).view(pa.string())}), path)
    with pytest.raises(DataError, match=r"is not a table of predictions \(.*Invalid UTF8.*\); run predict first"):
        read_predictions(path)
