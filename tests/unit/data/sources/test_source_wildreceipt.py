"""WildReceipt: fields by their labels, paths of another home, damaged lines."""

import json

import pytest

from fcotvl.core.errors import DataError
from fcotvl.data.decoding import Decoder, decode
from fcotvl.data.lazy_records import Quarantined
from fcotvl.data.sources.wildreceipt import read
from tests.support.datasets import needs_realdata, realdata, request, write_picture

CLASSES = "0 Ignore\n1 Store_name_value\t\n2 Store_name_key\n9 Total_value\n25 Others\n"
GOOD = {
    "file_name": "image_files/1.jpeg",
    "annotations": [
        {"text": "BIG", "label": 1},
        {"text": "SHOP", "label": 1},
        {"text": "Total", "label": 25},
        {"text": "", "label": 25},
        {"text": " ", "label": 25},
        {"text": "4.20", "label": 9},
    ],
}


def write(raw, *lines, classes=CLASSES):
    (raw / "wildreceipt").mkdir(exist_ok=True)
    (raw / "wildreceipt/class_list.txt").write_text(classes)
    rows = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (raw / "wildreceipt/train.txt").write_text("\n".join(rows))


def test_fields_are_asked_for_one_by_one_and_lines_all_together(tmp_path):
    write(tmp_path, GOOD)
    write_picture(tmp_path / "wildreceipt/image_files/1.jpeg", 1)
    (record,) = read(request(tmp_path))
    assert [(turn.question, turn.answers) for turn in record.turns] == [
        ("What is the store name?", ("BIG SHOP",)),
        ("What is the total?", ("4.20",)),
        ("Read the text.", ("BIG\nSHOP\nTotal\n4.20",)),
    ]
    assert record.image == tmp_path / "wildreceipt/image_files/1.jpeg"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "not JSON"),
        ({**GOOD, "file_name": "../../1.jpeg"}, "leaves"),
        ({**GOOD, "annotations": {}}, "annotations is dict"),
        ({**GOOD, "annotations": [{"text": "x", "label": 99}]}, "label 99"),
        ({**GOOD, "annotations": [{"text": "x"}]}, "label is missing"),
        ({**GOOD, "annotations": []}, "no text"),
    ],
)
def test_a_damaged_line_is_set_aside(tmp_path, bad, reason):
    write(tmp_path, bad, GOOD)
    first, second = read(request(tmp_path))
    assert isinstance(first, Quarantined)
    assert reason in first.reason
    assert len(second.turns) == 3


def test_a_damaged_list_of_labels_is_one_line(tmp_path):
    write(tmp_path, GOOD, classes="one Store\n")
    with pytest.raises(DataError, match=r"class_list\.txt is not a list"):
        list(read(request(tmp_path)))


@pytest.mark.parametrize("name", ["loop.png", "x" * 300 + ".png", "deep/" + "x" * 300, "./"])
def test_a_path_that_leads_nowhere_is_set_aside(tmp_path, name):
    write(tmp_path, GOOD | {"file_name": name}, GOOD)
    (tmp_path / "wildreceipt/loop.png").symlink_to(tmp_path / "wildreceipt/loop.png")
    write_picture(tmp_path / "wildreceipt/image_files/1.jpeg", 1)
    bad, good = decode(read(request(tmp_path)), Decoder("test", "Apache-2.0", 10**6, needs_hash=False))
    assert isinstance(bad, Quarantined)
    assert good.record.id == "wildreceipt-image_files/1"


@needs_realdata
def test_the_real_sample_has_the_counts_of_its_page():
    records = list(read(request(realdata()), folder="MMOCR_toy/wildreceipt", annotations="data.txt"))
    assert len(records) == 1
    assert records[0].turns[0].question == "What is the store name?"
    assert records[0].turns[0].answers[0].startswith("SAFEWAY")
    (result,) = decode(records, Decoder("align", "Apache-2.0", 10**7, needs_hash=False))
    assert (result.record.width, result.record.height) == (1600, 1200)
