"""Answer files for hidden tests: what the server would refuse is refused here."""

import json

import pandas as pd
import pytest

from fcotvl.core.errors import DataError
from fcotvl.evaluate.submission import official_id, submission, validate


def predictions(*rows):
    return pd.DataFrame(rows, columns=["question_id", "prompt", "prediction"])


def test_every_question_once_by_id_with_the_final_answer():
    table = predictions(("10", "cot", "It says so.\nAnswer: Zürich"), ("9", "direct", "5"))
    text = submission(table, [9, 10])
    assert "Zürich" in text
    assert json.loads(text) == [{"questionId": 9, "answer": "5"}, {"questionId": 10, "answer": "Zürich"}]


def test_an_id_that_is_not_a_number_is_refused():
    with pytest.raises(DataError, match="'q1' is not the official integer"):
        submission(predictions(("q1", "direct", "5")), [1])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"questionId": 1, "answer": "a"}, "not dict"),
        ([{"questionId": 1}], "is not"),
        ([{"questionId": "1", "answer": "a"}], "must be an integer"),
        ([{"questionId": True, "answer": "a"}], "must be an integer"),
        ([{"questionId": 1, "answer": ["a"]}], "one string"),
        ([{"questionId": 1, "answer": "a"}] * 2, "question 1 is answered 2 times"),
        ([{"questionId": 1, "answer": "a"}], "1 questions have no answer, the first is 2"),
        ([{"questionId": i, "answer": "a"} for i in (1, 2, 3)], "1 answers have no question"),
    ],
)
def test_what_the_server_would_refuse_is_refused(rows, message):
    with pytest.raises(DataError, match=message):
        validate(rows, [1, 2])


@pytest.mark.parametrize(
    ("question_id", "official"), [("docvqa-test-57344", 57344), ("infographicvqa-test-3", 3), ("12", 12), (12, 12)]
)
def test_the_official_integer_is_read_from_the_id_of_our_readers(question_id, official):
    assert official_id(question_id) == official


@pytest.mark.parametrize("question_id", ["chartqa-test-3", "docvqa-3", "docvqa-val-3", "1.5", "", "9" * 5000])
def test_no_integer_is_invented(question_id):
    with pytest.raises(DataError, match="is not the official integer"):
        official_id(question_id)


@pytest.mark.parametrize("reply", [None, float("nan")])
def test_a_missing_reply_is_refused_and_an_empty_one_is_an_answer(reply):
    table = predictions(("1", "direct", ""), ("2", "direct", reply))
    with pytest.raises(DataError, match="1 questions are without a reply, the first is 2"):
        submission(table, [1, 2])
    assert json.loads(submission(table[:1], [1])) == [{"questionId": 1, "answer": ""}]
