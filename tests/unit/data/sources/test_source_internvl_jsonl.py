"""InternVL's JSONL: evaluation lines and conversations, neighbours about one image together."""

import json

import pytest

from fcotvl.core.errors import DataError
from fcotvl.data.lazy_records import FileRecord, Quarantined
from fcotvl.data.sources.internvl_jsonl import read
from tests.support.datasets import needs_realdata, realdata, request, write_picture


def found(raw, *lines):
    write_picture(raw / "images/a.png", 1)
    rows = (each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines)
    (raw / "val.jsonl").write_bytes(b"\n".join(rows))
    return list(read(request(raw), file="val.jsonl", source="docvqa"))


def ask(question, answer, image="images/a.png"):
    return {"image": image, "question": question, "question_id": 1, "answer": answer}


def test_neighbouring_lines_about_one_image_are_one_record(tmp_path):
    first, second, third = found(
        tmp_path,
        ask("Who?", ["a", "b"]),
        ask("When?", "1796"),
        ask("Where?", "there", "images/b.png"),
        ask("Who?", None),
    )
    assert [turn.answers for turn in first.turns] == [("a", "b"), ("1796",)]
    assert second.image.name == "b.png"
    assert third.turns[0].answers == ()
    assert len({turn.id for record in (first, second, third) for turn in record.turns}) == 4


def test_a_conversation_loses_its_image_mark_and_prompt_tail(tmp_path):
    messages = [
        {"from": "human", "value": "<image>\nWho?\nAnswer the question using a single word or phrase."},
        {"from": "gpt", "value": "Me"},
        {"from": "human", "value": "When?"},
        {"from": "gpt", "value": "Now"},
    ]
    (record,) = found(tmp_path, {"image": "images/a.png", "conversations": messages})
    assert [(t.question, t.answers) for t in record.turns] == [("Who?", ("Me",)), ("When?", ("Now",))]


@pytest.mark.parametrize(
    "bad",
    [
        b"{",
        b"\xff\xfe",
        ["no object"],
        {"question": "Who?"},
        ask("Who?", "x", "../secret.png"),
        ask(3, "x"),
        {"image": "images/a.png", "conversations": [{"from": "human", "value": "Who?"}]},
        {"image": "images/a.png", "conversations": "Who?"},
    ],
)
def test_a_bad_line_is_set_aside(tmp_path, bad):
    items = found(tmp_path, ask("Who?", "a"), bad, ask("When?", "b"))
    assert [type(item) for item in items] == [FileRecord, Quarantined, FileRecord]
    assert items[1].file == "val.jsonl, line 1"


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match=r"internvl-jsonl: no 'x.jsonl' in"):
        list(read(request(tmp_path), file="x.jsonl", source="docvqa"))


@needs_realdata
def test_a_real_list_without_answers_is_read():
    options = {"file": "LLMDoc/LLMDoc.jsonl", "images": "LLMDoc", "source": "llmdoc"}
    records = list(read(request(realdata()), **options))
    assert len(records) == 9
    assert all(record.image.is_file() for record in records)
