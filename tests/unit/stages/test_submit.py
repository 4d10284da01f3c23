"""The answer file of a hidden test split, from predictions and the split's questions."""

import json

import pandas as pd
import pytest

from fcotvl.core import config
from fcotvl.core.errors import DataError
from fcotvl.core.records import Record, Turn
from fcotvl.core.shards import write_shards
from fcotvl.stages import submit


def write_questions(folder, numbers):
    """A test split of one page per question, without answers."""
    records = [
        Record(
            id=f"docvqa-test-page{number}",
            source="docvqa",
            licence="research",
            split="test",
            image=b"",
            width=1,
            height=1,
            sha256="",
            turns=(Turn(f"docvqa-test-{number}", "Who?", (), "extractive"),),
        )
        for number in numbers
    ]
    write_shards(folder, records, shard_size=2)
    return folder


def reply(number, text, **other):
    return {
        "system": "merged",
        "benchmark": "docvqa",
        "prompt": "direct",
        "kind": "extractive",
        "image_id": f"docvqa-test-page{number}",
        "question_id": f"docvqa-test-{number}",
        "prediction": text,
        "references": [],
    } | other


@pytest.fixture
def submitted(tmp_path):
    def run(replies, numbers, **other):
        path, output = tmp_path / "predictions.parquet", tmp_path / "submission.json"
        pd.DataFrame(replies).to_parquet(path)
        flags = {"benchmark": "docvqa", "system": "merged"} | other
        questions = write_questions(tmp_path / "docvqa", numbers)
        submit.run(config.load(), predictions=path, questions=questions, output=output, **flags)
        return json.loads(output.read_text(encoding="utf-8"))

    return run


REPLIES = [
    reply(57344, "Zürich"),
    reply(9, ""),
    reply(9, "It is 5.\nAnswer: 5", prompt="cot"),
    reply(57344, "Answer: 6", prompt="cot"),
    reply(9, "other", system="teacher"),
    reply(3, "other", benchmark="infovqa", question_id="infographicvqa-test-3"),
]


def test_one_systems_answers_to_every_question_by_official_id(submitted):
    assert submitted(REPLIES, [57344, 9]) == [
        {"questionId": 9, "answer": ""},
        {"questionId": 57344, "answer": "Zürich"},
    ]
    assert submitted(REPLIES, [57344, 9], prompt="cot") == [
        {"questionId": 9, "answer": "5"},
        {"questionId": 57344, "answer": "6"},
    ]


def test_a_question_without_an_answer_is_refused(submitted, tmp_path):
    with pytest.raises(DataError, match="1 questions have no answer, the first is 10"):
        submitted(REPLIES, [57344, 9, 10])
    assert not (tmp_path / "submission.json").exists()


def test_an_answer_without_a_question_is_refused(submitted):
    with pytest.raises(DataError, match="1 answers have no question, the first is 57344"):
        submitted(REPLIES, [9])


def test_a_missing_reply_does_not_become_text(submitted):
    with pytest.raises(DataError, match="1 questions are without a reply"):
        submitted([reply(9, None), reply(10, "a")], [9, 10])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"benchmark": "chartqa"}, "no benchmark 'chartqa' here; there are docvqa, infovqa"),
        ({"system": "student"}, "no system 'student' here; there are merged, teacher"),
        ({"system": "teacher", "prompt": "cot"}, "no prompt 'cot' here; there are direct"),
    ],
)
def test_what_the_predictions_do_not_hold_is_answered_with_what_they_hold(submitted, flags, message):
    with pytest.raises(DataError, match=message):
        submitted(REPLIES, [57344, 9], **flags)


def test_predictions_that_cannot_be_read_are_one_line(tmp_path):
    with pytest.raises(DataError, match="nowhere is not a table of predictions"):
        submit.run(
            config.load(),
            predictions=tmp_path / "nowhere",
            questions=tmp_path,
            benchmark="docvqa",
            system="merged",
            output=tmp_path / "out.json",
        )
