"""VLMEvalKit's tables: base64 images, shared images, answers as Python lists or bare text."""

import base64
import csv

import pytest
import yaml

from fcotvl.core.errors import DataError
from fcotvl.data.lazy_records import FileRecord, Quarantined
from fcotvl.data.sources import vlmevalkit
from fcotvl.data.sources.vlmevalkit import read
from fcotvl.evaluate.metrics.relaxed_vlmevalkit import score as relaxed
from tests.support.datasets import encoded, picture, request
from tests.support.imports import ROOT

CELLS = yaml.safe_load((ROOT / "tests/golden/evaluate/vlmevalkit.yaml").read_text(encoding="utf-8"))
IMAGE = base64.b64encode(encoded(picture(1))).decode()


def found(raw, *rows, columns=("index", "image", "question", "answer", "split")):
    with (raw / "t.tsv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerows([columns, *rows])
    return list(read(request(raw), file="t.tsv", source="chartqa"))


def test_a_row_is_a_record(tmp_path):
    (record,) = found(tmp_path, ["7", IMAGE, "How many?", "14", "test_human"])
    assert record.image == encoded(picture(1))
    assert record.source == "chartqa/human"
    assert record.turns[0].answers == ("14",)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("['0.28', '.28']", ("0.28", ".28")),
        ("[Gambia, Niger]", ("[Gambia, Niger]",)),
        ("['unclosed", ("['unclosed",)),
        ("[1, 2]", ("[1, 2]",)),
        ("__import__('os')", ("__import__('os')",)),
        ("", ()),
        (" Yes", (" Yes",)),
        ("['Yes ', 'no']", ("Yes ", "no")),
        ("{[1]}", ("{[1]}",)),
        ("['[1, 2]', '3']", ("[1, 2]", "3")),
        ("['[1, 2]']", ("[1, 2]", "[1, 2]")),
    ],
)
def test_answers_are_lists_only_where_they_are(tmp_path, answer, expected):
    (record,) = found(tmp_path, ["0", IMAGE, "Who?", answer, ""])
    assert record.turns[0].answers == expected
    assert record.source == "chartqa"


def test_a_short_image_is_that_of_another_row(tmp_path):
    first, second, third = found(
        tmp_path, ["0", IMAGE, "Who?", "a", ""], ["1", "0", "When?", "b", ""], ["2", "9", "Where?", "c", ""]
    )
    assert first.image == second.image
    assert isinstance(third, Quarantined)
    assert "row '9'" in third.reason


@pytest.mark.parametrize(
    "row", [["0", "*" * 100, "Who?", "a", ""], ["0", IMAGE, "", "a", ""], ["0"], [""], ["0", "é" * 100, "Who?"]]
)
def test_a_bad_row_is_set_aside(tmp_path, row):
    bad, good = found(tmp_path, row, ["1", IMAGE, "Who?", "a", ""])
    assert isinstance(bad, Quarantined)
    assert isinstance(good, FileRecord)


def test_missing_files_and_columns_are_named(tmp_path):
    with pytest.raises(DataError, match=r"vlmevalkit: no 't.tsv' in"):
        list(read(request(tmp_path), file="t.tsv", source="x"))
    with pytest.raises(DataError, match="has no column image, question"):
        found(tmp_path, ["0", "x"], columns=("index", "text"))


@pytest.mark.parametrize("case", CELLS, ids=lambda case: f"{case['cell']} {case['prediction']}")
def test_a_cell_scores_as_in_vlmevalkit(tmp_path, case):
    (record,) = found(tmp_path, ["0", IMAGE, "Who?", case["cell"], ""])
    assert relaxed(case["prediction"], record.turns[0].answers) == case["score"]


def test_a_row_that_is_no_row_is_set_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(vlmevalkit, "MAX_FIELD", 2 * len(IMAGE))
    long, good = found(tmp_path, ["0", "x" * 3 * len(IMAGE), "Who?", "a", ""], ["1", IMAGE, "Who?", "a", ""])
    assert "field larger than field limit" in long.reason
    assert good.id == "t-1"


def test_a_folder_in_place_of_the_table_is_named(tmp_path):
    (tmp_path / "t.tsv").mkdir()
    with pytest.raises(DataError, match=r"t\.tsv cannot be read \(not a file\)"):
        list(read(request(tmp_path), file="t.tsv", source="x"))
