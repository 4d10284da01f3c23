"""The OCR text of DocVQA pages: found through the ids of its questions."""

import pytest

from fcotvl.data.lazy_records import Quarantined
from fcotvl.data.sources.docvqa_text import read
from tests.support.datasets import needs_realdata, realdata, request, write_json, write_picture


def write(raw, rows):
    pages = [
        {"questionId": number, "question": "Who?", "image": f"documents/{page}.png"}
        for number, page in ((1, "a_1"), (2, "a_1"), (3, "b_2"))
    ]
    write_json(raw / "DocVQA/val/val_v1.0.json", {"data": pages})
    write_json(raw / "DocVQA/val/docvqa_val_squad_format.json", rows)
    write_picture(raw / "DocVQA/val/documents/a_1.png", 1)


def found(raw):
    return list(read(request(raw), split="val"))


def row(context, *ids):
    return {"context": context, "qas": [{"id": number, "question": "Who?"} for number in ids]}


def test_a_page_is_found_through_its_questions(tmp_path):
    write(tmp_path, [row("itc  limited", 1, 2)])
    (record,) = found(tmp_path)
    assert record.image.name == "a_1.png"
    assert record.turns[0].kind == "transcribe"
    assert record.turns[0].answers == ("itc limited",)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row("text", 1, 3), "belong to 2 pages"),
        (row("text", 77), "belong to 0 pages"),
        (row("x" * 5000, 1), "5000 characters, too many"),
        ({"qas": []}, "context is missing"),
    ],
)
def test_a_row_that_leads_nowhere_is_set_aside(tmp_path, bad, reason):
    write(tmp_path, [bad, row("text", 1)])
    first, second = found(tmp_path)
    assert isinstance(first, Quarantined)
    assert reason in first.reason
    assert second.turns[0].answers == ("text",)


def test_a_damaged_question_does_not_cost_the_other_pages(tmp_path):
    write(tmp_path, [row("text", 1)])
    pages = [{"questionId": "9" * 5000, "image": "a_1.png"}, {"questionId": 1, "image": "documents/a_1.png"}]
    write_json(tmp_path / "DocVQA/val/val_v1.0.json", {"data": pages})
    bad, good = found(tmp_path)
    assert (bad.file, bad.reason[:15]) == ("DocVQA/val_v1.0.json, row 0", "questionId is s")
    assert good.turns[0].answers == ("text",)


@needs_realdata
def test_the_real_sample_has_one_text_a_page():
    records = found(realdata())
    assert len(records) == 11
    assert sum(isinstance(record, Quarantined) for record in records) == 1  # 2,594 characters
