"""Answer files for hidden tests: what the server would refuse is refused here."""

import json

import pandas as pd
import pytest

from fcotvl.core.errors import DataError
from fcotvl.evaluate.submission import submission, validate


def predictions(*rows):
    return pd.DataFrame(rows, columns=["question_id", "prompt", "prediction"])


def test_every_question_once_by_id_with_the_final_answer():
    table = predictions(("10", "cot", "It says so.\nAnswer: Zürich"), ("9", "direct", "5"))
    text = submission(table, [9, 10])
    assert "Zürich" in text
    assert json.loads(text) == [
        {"questionId": 9, "answer": "5"},
        {"questionId": 10, "answer": "Zürich"},
    ]


def test_an_id_that_is_no_number_is_refused():
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
