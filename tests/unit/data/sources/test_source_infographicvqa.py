"""InfographicVQA: both spellings of its files, and questions to work out apart from others."""

import pytest

from fcotvl.core.errors import DataError
from fcotvl.data.lazy_records import Quarantined
from fcotvl.data.sources.infographicvqa import read
from tests.support.datasets import needs_realdata, realdata, request, write_json, write_picture


def row(number, operation=(), **more):
    found = {
        "questionId": number,
        "question": "When?",
        "image_local_name": "7.jpeg",
        "answers": ["1796"],
        "operation/reasoning": list(operation),
    }
    return found | more


def write(raw, rows, name, images="infographicsvqa_images"):
    write_json(raw / "InfographicVQA" / name, {"data": rows})
    write_picture(raw / "InfographicVQA" / images / "7.jpeg", 1, format="JPEG")


def found(raw, split="val"):
    return list(read(request(raw), split=split))


@pytest.mark.parametrize(
    ("name", "images", "split"),
    [
        ("infographicsVQA_val_v1.0_withQT.json", "infographicsvqa_images", "val"),
        ("infographicVQA_train_v1.0.json", "infographicVQA_train_v1.0_images", "train"),
        ("infographicsvqa_qas/infographicsVQA_test_v1.0.json", "infographicsvqa_images", "test"),
    ],
)
def test_both_spellings_are_found(tmp_path, name, images, split):
    write(tmp_path, [row(1), row(2)], name, images)
    (record,) = found(tmp_path, split)
    assert record.image.is_file()
    assert len(record.turns) == 2


def test_a_listed_operation_means_something_to_work_out(tmp_path):
    rows = [row(1), row(2, ["counting"]), row(3, answers=[])]
    write(tmp_path, rows, "infographicsVQA_val_v1.0_withQT.json")
    (record,) = found(tmp_path)
    assert [turn.kind for turn in record.turns] == ["extractive", "reason", "extractive"]
    assert record.turns[2].answers == ()


def test_a_bad_row_is_set_aside(tmp_path):
    rows = [row(1, image_local_name="../../x.jpeg"), row(2), {"questionId": 3}]
    write(tmp_path, rows, "infographicsVQA_val_v1.0_withQT.json")
    items = found(tmp_path)
    assert [isinstance(item, Quarantined) for item in items] == [True, True, False]


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="infographicvqa: no 'InfographicVQA' in"):
        found(tmp_path)


@needs_realdata
def test_the_real_sample_has_the_counts_of_its_page():
    records = found(realdata())
    assert (len(records), sum(len(record.turns) for record in records)) == (2, 10)
