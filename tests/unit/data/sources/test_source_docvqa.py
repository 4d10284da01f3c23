"""DocVQA as the competition ships it: both headers, both layouts, hidden answers."""

import json

import pytest

from fcotvl.core.errors import DataError
from fcotvl.data.lazy_records import FileRecord, Quarantined
from fcotvl.data.sources.docvqa import read
from tests.support.datasets import needs_realdata, realdata, request, write_json, write_picture


def question(number, page="a_1", **more):
    row = {"questionId": number, "question": f"Who {number}?", "image": f"documents/{page}.png"}
    return row | {"answers": ["Me", "me"]} | more


def write(raw, rows, name="val/val_v1.0_withQT.json", images="val/documents"):
    header = {"dataset_name": "SP-DocVQA", "dataset_split": "val"}
    write_json(raw / "DocVQA" / name, header | {"data": rows})
    for seed, page in enumerate(("a_1", "b_2")):
        write_picture(raw / "DocVQA" / images / f"{page}.png", seed)


def found(raw, split="val"):
    return list(read(request(raw), split=split))


def test_questions_are_brought_together_by_page(tmp_path):
    write(tmp_path, [question(1), question(2, "b_2"), question(3)])
    first, second = found(tmp_path)
    assert [turn.id for turn in first.turns] == ["docvqa-val-1", "docvqa-val-3"]
    assert first.turns[0].answers == ("Me", "me")
    assert second.image.is_file()


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("val/val_v1.0.json", "val/documents"),
        ("spdocvqa_qas/val_v1.0_withQT.json", "spdocvqa_images"),
        ("val_v1.0_withQT.json", "documents"),
    ],
)
def test_every_official_layout_is_found(tmp_path, name, images):
    write(tmp_path, [question(1)], name, images)
    (record,) = found(tmp_path)
    assert record.image.is_file()


def test_hidden_answers_are_no_answers(tmp_path):
    row = question(1)
    del row["answers"]
    write(tmp_path, [row], "test/test_v1.0.json", "test/documents")
    (record,) = found(tmp_path, "test")
    assert record.turns[0].answers == ()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (question("x"), "questionId is str 'x', expected a whole number"),
        (question(9, "../../../secret"), "leaves"),
        (question(9, answers=3), "answers is int 3"),
        ({"questionId": 9}, "image is missing"),
        ([], "expected an object"),
    ],
)
def test_a_bad_row_is_set_aside(tmp_path, row, reason):
    write(tmp_path, [question(1), row])
    bad, good = found(tmp_path)
    assert isinstance(bad, Quarantined)
    assert reason in bad.reason
    assert bad.file == "DocVQA/val_v1.0_withQT.json, row 1"
    assert isinstance(good, FileRecord)


@pytest.mark.parametrize("content", ["[]", '{"data": {}}', "{", '{"rows": []}'])
def test_a_damaged_file_is_set_aside(tmp_path, content):
    write(tmp_path, [])
    (tmp_path / "DocVQA/val/val_v1.0_withQT.json").write_text(content)
    (bad,) = found(tmp_path)
    assert isinstance(bad, Quarantined)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="docvqa: no 'DocVQA' in"):
        found(tmp_path)
    write(tmp_path, [question(1)])
    with pytest.raises(DataError, match=r"no train/train_v1.0_withQT.json in"):
        found(tmp_path, "train")


@needs_realdata
@pytest.mark.parametrize(("split", "pages", "questions"), [("val", 11, 53), ("test", 5, 24)])
def test_the_real_sample_has_the_counts_of_its_page(split, pages, questions):
    records = found(realdata(), split)
    assert (len(records), sum(len(record.turns) for record in records)) == (pages, questions)


@needs_realdata
def test_both_headers_say_the_same(tmp_path):
    old, new = (
        json.loads(realdata("DocVQA/val", name).read_text())["data"]
        for name in ("val_v1.0.json", "val_v1.0_withQT.json")
    )
    records = []
    for number, rows in enumerate((old, new)):
        write(tmp_path / str(number), rows)
        records.append([record.turns for record in found(tmp_path / str(number))])
    assert records[0] == records[1]
