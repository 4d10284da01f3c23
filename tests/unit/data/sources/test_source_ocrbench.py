"""OCRBench: answers as text or list, several questions an image, images that are not there."""

from fcotvl.data.decoding import Decoder, decode
from fcotvl.data.lazy_records import Quarantined
from fcotvl.data.sources.ocrbench import read
from tests.support.datasets import needs_realdata, realdata, request, write_json, write_picture


def row(number, answers, path="ChartQA/a.png", dataset="ChartQA"):
    return {"dataset_name": dataset, "id": number, "image_path": path, "question": "Who?", "answers": answers}


def test_answers_may_be_text_or_list(tmp_path):
    rows = [row(1, "Ted Baker\n"), row(2, ["5", "5.0"]), row(3, 5), row(4, "x", "../../x.png")]
    write_json(tmp_path / "OCRBench/OCRBench.json", rows)
    write_picture(tmp_path / "OCRBench/OCRBench_Images/ChartQA/a.png", 1)
    third, fourth, record = read(request(tmp_path))
    assert [turn.answers for turn in record.turns] == [("Ted Baker",), ("5", "5.0")]
    assert isinstance(third, Quarantined)
    assert "leaves" in fourth.reason


def test_formulas_are_told_from_text(tmp_path):
    rows = [row(1, ["x _ 2\n", "x _ { 2 }\n"], "HME100K/a.jpg", "HME100k"), row(2, "x _ 2", "IAM/b.jpg", "IAM")]
    write_json(tmp_path / "OCRBench/OCRBench.json", rows)
    for seed, one in enumerate(rows):
        write_picture(tmp_path / "OCRBench/OCRBench_Images" / one["image_path"], seed)
    formula, text = read(request(tmp_path))
    assert formula.turns[0].answers == ("$x _ 2$", "$x _ { 2 }$")
    assert text.turns[0].answers == ("x _ 2",)


@needs_realdata
def test_the_real_sample_has_the_counts_of_its_page():
    records = list(read(request(realdata())))
    assert (len(records), sum(len(record.turns) for record in records)) == (38, 59)


@needs_realdata
def test_missing_images_are_set_aside_one_by_one():
    records = list(read(request(realdata()), annotations="OCRBench_missing_images.json"))
    assert sum(len(record.turns) for record in records) == 25
    results = list(decode(records, Decoder("test", "MIT", 10**7, needs_hash=False)))
    assert len(results) == len(records)
    assert all(isinstance(result, Quarantined) for result in results)
