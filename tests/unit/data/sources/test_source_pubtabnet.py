"""PubTabNet: tables become Markdown, those with spans HTML; other splits are passed over."""

import json

import pytest

from fcotvl.data.lazy_records import FileRecord, Quarantined
from fcotvl.data.sources.pubtabnet import read
from tests.support.datasets import needs_realdata, realdata, request, write_picture

PLAIN = ["<thead>", "<tr>", "<td>", "</td>", "<td>", "</td>", "</tr>", "</thead>"]
SPAN = ["<tr>", "<td", ' colspan="2"', ">", "</td>", "</tr>"]


def cells(*texts):
    return [{"tokens": list(text)} for text in texts]


def line(structure, *texts, split="train", name="a.png"):
    html = {"structure": {"tokens": structure}, "cells": cells(*texts)}
    return {"filename": name, "split": split, "html": html}


def found(raw, *lines):
    root = raw / "PubTabNet"
    write_picture(root / "a.png", 1)
    text = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    (root / "PubTabNet_2.0.0.jsonl").write_text(text)
    return list(read(request(raw)))


def test_a_plain_table_is_markdown(tmp_path):
    (record,) = found(tmp_path, line(PLAIN, "A|B", "C"))
    assert record.turns[0].question == "Write the table as Markdown."
    assert record.turns[0].answers == ("| A\\|B | C |\n| --- | --- |",)


def test_a_table_with_spans_is_html(tmp_path):
    (record,) = found(tmp_path, line(SPAN, "wide"))
    assert record.turns[0].answers == ('<tr><td colspan="2">wide</td></tr>',)


def test_marks_inside_cells_are_left_out(tmp_path):
    root = line(PLAIN, "A", "B")
    root["html"]["cells"][0]["tokens"] = ["<b>", "A", "g", "e", "</b>"]
    (record,) = found(tmp_path, root)
    assert record.turns[0].answers[0].startswith("| Age | B |")


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[]",
        line(PLAIN, "only one"),
        line(PLAIN, "a", "b", name="../../x.png"),
        {"filename": "a.png", "split": "train"},
        {"filename": "a.png", "split": "train", "html": {"structure": {"tokens": [3]}, "cells": 5}},
    ],
)
def test_a_bad_line_is_set_aside(tmp_path, bad):
    first, second = found(tmp_path, bad, line(PLAIN, "a", "b"))
    assert isinstance(first, Quarantined)
    assert first.file.endswith("line 0")
    assert isinstance(second, FileRecord)


def test_other_splits_are_passed_over(tmp_path):
    assert len(found(tmp_path, line(PLAIN, "a", "b", split="val"), line(PLAIN, "a", "b"))) == 1


@needs_realdata
def test_the_real_sample_has_the_counts_of_its_page():
    options = {"annotations": "examples/PubTabNet_Examples.jsonl", "images": "examples"}
    records = list(read(request(realdata()), **options))
    assert len(records) == 10
    assert all(isinstance(record, FileRecord) and record.image.is_file() for record in records)
