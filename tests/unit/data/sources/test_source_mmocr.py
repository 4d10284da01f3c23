"""MMOCR's files: words, scenes without text, damaged rows."""

import pytest

from fcotvl.data.decoding import Decoder, decode
from fcotvl.data.lazy_records import FileRecord, Quarantined
from fcotvl.data.sources.mmocr import read
from tests.support.datasets import needs_realdata, realdata, request, write_json, write_picture


def row(path="a.jpg", *instances):
    return {"img_path": path, "instances": list(instances)}


def test_words_are_lines_and_ignored_ones_are_left_out(tmp_path):
    scene = row("a.jpg", {"text": "GRAND"}, {"text": "x", "ignore": True}, {"text": "HOTEL"})
    write_json(tmp_path / "toy/labels.json", {"metainfo": {}, "data_list": [scene]})
    write_picture(tmp_path / "toy/imgs/a.jpg", 1)
    (record,) = read(request(tmp_path), folder="toy")
    assert [(t.kind, t.answers) for t in record.turns] == [("transcribe", ("GRAND\nHOTEL",))]
    assert (record.id, record.source, record.file) == ("toy-a", "toy", "toy/imgs/a.jpg")
    assert record.image.is_file()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row("a.jpg", {"polygon": [1, 2]}), "text is missing"),
        (row("a.jpg", {"text": 5}), "int 5"),
        (row("../../a.jpg", {"text": "x"}), "leaves"),
        (row("a.jpg"), "no text"),
        ({"img_path": "a.jpg"}, "instances is NoneType"),
        ([], "a row is list"),
    ],
)
def test_a_damaged_row_is_set_aside(tmp_path, bad, reason):
    write_json(tmp_path / "toy/labels.json", {"data_list": [bad, row("b.jpg", {"text": "ok"})]})
    (tmp_path / "toy/imgs").mkdir()
    first, second = read(request(tmp_path), folder="toy")
    assert isinstance(first, Quarantined)
    assert reason in first.reason
    assert first.file == "toy/labels.json, row 0"
    assert second.turns[0].answers == ("ok",)


def test_an_empty_instance_does_not_cost_the_picture(tmp_path):
    scene = row("a.jpg", {"text": "GRAND"}, {"text": ""}, {"text": "HOTEL"})
    write_json(tmp_path / "toy/labels.json", {"data_list": [scene]})
    (tmp_path / "toy/imgs").mkdir()
    (record,) = read(request(tmp_path), folder="toy")
    assert record.turns[0].answers == ("GRAND\nHOTEL",)


@needs_realdata
def test_the_real_sample_has_the_counts_of_its_page():
    words = list(read(request(realdata()), folder="MMOCR_toy/rec_coco_text"))
    assert sorted(record.turns[0].answers[0] for record in words) == [
        "03/09/2009", "ATTACK", "GRAND", "HOTEL", "Virgin",
    ]  # fmt: skip
    results = list(decode(words, Decoder("align", "Apache-2.0", 10**7, needs_hash=False)))
    assert [(r.record.width, r.record.height) for r in results if r.file.endswith("31.jpg")]
    assert not any(isinstance(result, Quarantined) for result in results)
    scenes = list(
        read(request(realdata()), folder="MMOCR_toy/det_icdar2015", annotations="textdet_test.json", images="")
    )
    assert len(scenes) == 5
    assert not any(isinstance(scene, FileRecord) for scene in scenes)  # detection: boxes alone
