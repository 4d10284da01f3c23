"""SROIE: entities and lines of a receipt; one damaged file does not cost the other."""

import json

import pytest

from fcotvl.core.errors import DataError
from fcotvl.data.lazy_records import FileRecord, Quarantined
from fcotvl.data.sources.sroie import read
from tests.support.datasets import needs_realdata, realdata, request, write_picture

ENTITIES = json.dumps({"company": "INDAH", "date": "19/10/2018", "address": "", "total": "$8.20"})
LINES = "1,2,3,4,5,6,7,8,INDAH, GIFT & HOME\r\n\r\n1,2,3,4,5,6,7,8,TOTAL 8.20\r\n"


def write(raw, name="X1", entities=ENTITIES, box=LINES):
    root = raw / "SROIE2019/train"
    write_picture(root / "img" / f"{name}.jpg", 1)
    for part, content in (("entities", entities), ("box", box)):
        (root / part).mkdir(exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode()
        (root / part / f"{name}.txt").write_bytes(data)


def found(raw, split="train"):
    return list(read(request(raw), split=split))


def test_entities_and_lines_are_asked_for(tmp_path):
    write(tmp_path)
    (record,) = found(tmp_path)
    assert [(turn.question, turn.answers[0]) for turn in record.turns] == [
        ("What is the company?", "INDAH"),
        ("What is the date?", "19/10/2018"),
        ("What is the total?", "$8.20"),
        ("Read the text.", "INDAH, GIFT & HOME\nTOTAL 8.20"),
    ]


@pytest.mark.parametrize(
    ("broken", "reason", "turns"),
    [
        ({"box": b"1,2,3,4,5,6,7,8,\xa35"}, "not UTF-8 (byte 0xa3", 3),
        ({"box": "1,2,3,TOTAL"}, "'1,2,3,TOTAL' has no text", 3),
        ({"entities": "{"}, "not JSON", 1),
        ({"entities": "[]"}, "holds list", 1),
        ({"entities": '{"company": ""}'}, "none of company", 1),
    ],
)
def test_one_damaged_file_does_not_cost_the_other(tmp_path, broken, reason, turns):
    write(tmp_path, **broken)
    bad, good = found(tmp_path)
    assert isinstance(bad, Quarantined)
    assert reason in bad.reason
    assert len(good.turns) == turns


def test_a_receipt_without_any_annotation_is_not_silent(tmp_path):
    write(tmp_path, entities="{", box="x")
    assert [type(item) for item in found(tmp_path)] == [Quarantined, Quarantined]


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="sroie: no 'SROIE2019' in"):
        found(tmp_path)


@pytest.mark.parametrize(("part", "left"), [("img/X1.jpg", 0), ("box/X1.txt", 1), ("entities/X1.txt", 1)])
def test_a_link_that_leaves_the_data_set_is_not_followed(tmp_path, part, left):
    write(tmp_path)
    path = tmp_path / "SROIE2019/train" / part
    path.rename(tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    bad, *good = found(tmp_path)
    assert (bad.file, bad.reason) == (f"train/{part}", f"path {path.name!r} leaves the data set's folder")
    assert len(good) == left


@needs_realdata
def test_the_real_sample_has_the_counts_of_its_page():
    counts = {
        split: [sum(isinstance(item, kind) for item in found(realdata(), split)) for kind in kinds]
        for split, kinds in (("train", (FileRecord, Quarantined)), ("test", (FileRecord, Quarantined)))
    }
    assert counts == {"train": [46, 0], "test": [14, 1]}  # X51006619503 is not UTF-8
