"""FUNSD: linked answers become questions, the rest of the form something to read."""

import json

import pytest

from fcotvl.core.errors import DataError
from fcotvl.data.lazy_records import FileRecord, Quarantined
from fcotvl.data.sources.funsd import read
from tests.support.datasets import needs_realdata, realdata, request, write_json, write_picture

PART = "FUNSD/dataset/training_data"


def entity(number, text, label, box, *links):
    pairs = [list(link) for link in links]
    return {"id": number, "text": text, "label": label, "box": box, "linking": pairs}


FORM = [
    entity(0, "DATE:", "question", [10, 50, 40, 60], (0, 2)),
    entity(1, "Service request", "header", [10, 5, 90, 15]),
    entity(2, "March 27", "answer", [50, 52, 90, 60], (0, 2)),
    entity(3, "NAME:", "question", [10, 70, 40, 80]),
    entity(4, "", "other", [10, 90, 40, 99]),
]


def write(raw, form, name="one"):
    write_json(raw / PART / "annotations" / f"{name}.json", {"form": form})
    write_picture(raw / PART / "images" / f"{name}.png", 1)


def found(raw, split="train"):
    return list(read(request(raw), split=split))


def test_linked_answers_are_asked_for_and_the_text_is_read_line_by_line(tmp_path):
    write(tmp_path, FORM)
    (record,) = found(tmp_path)
    text, date = record.turns
    assert text.answers == ("Service request\nDATE: March 27\nNAME:",)
    assert text.kind == "transcribe"
    assert (date.question, date.answers, date.kind) == ("What is the DATE?", ("March 27",), "extractive")


def test_notes_of_an_operating_system_are_no_annotations(tmp_path):
    write(tmp_path, FORM)
    (tmp_path / PART / "annotations/._one.json").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    assert len(found(tmp_path)) == 1


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ([], "no text and no question"),
        ([{"id": "x"}], "id is str 'x'"),
        ([entity(0, 3, "question", [0, 0, 1, 1])], "entity 0 has no text or no box"),
        ([entity(0, "A", "question", None)], "entity 0 has no text or no box"),
        ([entity(0, "A", "question", [0, 0, 9, 9]) | {"linking": 3}], "linking is int"),
        ([entity(0, "A", "question", ["a", "b", "c", "d"])], "entity 0 has no text or no box"),
        ("text", "holds str"),
    ],
)
def test_a_bad_form_is_set_aside(tmp_path, form, reason):
    write(tmp_path, form, "bad")
    write(tmp_path, FORM, "good")
    bad, good = found(tmp_path)
    assert isinstance(bad, Quarantined)
    assert reason in bad.reason
    assert isinstance(good, FileRecord)


def test_links_to_nothing_are_passed_over(tmp_path):
    write(tmp_path, [entity(0, "DATE:", "question", [1, 1, 9, 9], (0, 7), ([], {}))])
    (record,) = found(tmp_path)
    assert [turn.kind for turn in record.turns] == ["transcribe"]


def test_bytes_that_are_no_text_are_set_aside(tmp_path):
    write(tmp_path, FORM)
    (tmp_path / PART / "annotations/bad.json").write_bytes(json.dumps({"form": []}).encode("utf-16"))
    assert sum(isinstance(item, Quarantined) for item in found(tmp_path)) == 1


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="funsd: no 'FUNSD' in"):
        found(tmp_path)


@pytest.mark.parametrize("part", ["images/one.png", "annotations/one.json"])
def test_a_link_that_leaves_the_data_set_is_not_followed(tmp_path, part):
    write(tmp_path, FORM)
    path = tmp_path / PART / part
    path.rename(tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    (bad,) = found(tmp_path)
    assert bad.reason == f"path {path.name!r} leaves the data set's folder"


@needs_realdata
@pytest.mark.parametrize(("split", "forms"), [("train", 40), ("test", 17)])
def test_the_real_sample_has_the_counts_of_its_page(split, forms):
    records = found(realdata(), split)
    assert len(records) == forms
    assert all(isinstance(record, FileRecord) for record in records)
