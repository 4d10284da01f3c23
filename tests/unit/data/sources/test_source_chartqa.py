"""ChartQA in its official layout: both halves, every question, and each bad row set aside."""

import json

import pytest

from fcotvl.core.errors import DataError
from fcotvl.data.lazy_records import FileRecord, Quarantined
from fcotvl.data.sources.chartqa import read
from tests.support.datasets import needs_realdata, realdata, request, write_chartqa, write_json


def found(raw, split="test"):
    return list(read(request(raw), split=split))


def test_both_halves_come_in_turns_with_their_kind(tmp_path):
    write_chartqa(tmp_path, "test", charts=2)
    records = found(tmp_path)
    assert [d.source for d in records] == ["chartqa/human", "chartqa/augmented"] * 2
    assert [len(d.turns) for d in records] == [2, 1, 2, 1]
    assert {(d.source, t.kind) for d in records for t in d.turns} == {
        ("chartqa/human", "reason"),
        ("chartqa/augmented", "extractive"),
    }
    assert records[0].turns[0].answers == ("Fiji",)
    assert len({t.id for d in records for t in d.turns}) == 6
    assert len({d.id for d in records}) == 4


def test_one_half_is_enough(tmp_path):
    (write_chartqa(tmp_path, "train", charts=2) / "train_human.json").unlink()
    assert [d.source for d in found(tmp_path, "train")] == ["chartqa/augmented"] * 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"imgname": "0.png", "query": "Who?"}, "label is missing"),
        ({"imgname": "0.png", "query": 3, "label": "x"}, "query is int 3, expected text"),
        ({"imgname": "../../../secret.png", "query": "Who?", "label": "x"}, "leaves"),
        ("no row", "expected an object"),
        (None, "expected an object"),
    ],
)
def test_a_bad_row_is_set_aside_and_the_others_stay(tmp_path, row, reason):
    file = write_chartqa(tmp_path, "test", charts=1) / "test_human.json"
    file.write_text(json.dumps([row, *json.loads(file.read_text())]))
    bad = [item for item in found(tmp_path) if isinstance(item, Quarantined)]
    good = [item for item in found(tmp_path) if isinstance(item, FileRecord)]
    assert len(bad) == 1
    assert reason in bad[0].reason
    assert bad[0].file.endswith("test_human.json, row 0")
    assert sorted(len(d.turns) for d in good) == [1, 2]


def test_a_damaged_file_is_set_aside_and_the_other_half_stays(tmp_path):
    (write_chartqa(tmp_path, "test", charts=1) / "test_human.json").write_bytes(b'[{"imgname": "\xa3"')
    first, second = found(tmp_path)
    assert isinstance(first, Quarantined)
    assert "not UTF-8" in first.reason
    assert second.source == "chartqa/augmented"


def test_missing_folders_and_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"chartqa: no .ChartQA/ChartQA Dataset. in"):
        found(tmp_path)
    root = write_chartqa(tmp_path, "test", charts=1)
    for name in ("test_human.json", "test_augmented.json"):
        (root / name).unlink()
    with pytest.raises(DataError, match=r"has no test_human.json or test_augmented.json"):
        found(tmp_path)


def test_a_rationale_is_taken_where_it_ends_in_the_label(tmp_path):
    write_chartqa(tmp_path, "train", charts=1)
    asked = {"image": "0.png", "question": "How much was it in 2004?", "think": "I see 12.5."}
    write_json(tmp_path / "cot.json", [asked | {"answer": "12.5"}, asked | {"answer": "13"}, "bad"])
    bad, *records = read(request(tmp_path), split="train", rationales="cot.json")
    assert isinstance(bad, Quarantined)
    assert bad.file == "cot.json, row 2"
    found = {turn.question: turn.rationale for record in records for turn in record.turns}
    assert found.pop("How much was it in 2004?") == "I see 12.5."
    assert set(found.values()) == {None}


def test_a_rationale_for_another_answer_is_not_taken(tmp_path):
    write_chartqa(tmp_path, "train", charts=1)
    asked = {"image": "0.png", "question": "How much was it in 2004?", "think": "I see 13."}
    write_json(tmp_path / "cot.json", [asked | {"answer": "13"}])
    records = read(request(tmp_path), split="train", rationales="cot.json")
    assert {turn.rationale for record in records for turn in record.turns} == {None}


@needs_realdata
def test_the_real_rationales_belong_to_the_real_questions():
    options = {"split": "train", "rationales": "ChartQA_CoT/train_converted.json"}
    records = list(read(request(realdata()), **options))
    assert sum(turn.rationale is not None for record in records for turn in record.turns) == 91


@needs_realdata
def test_the_real_sample_has_the_counts_of_its_page():
    records = found(realdata())
    counts = {
        half: sum(len(d.turns) for d in records if d.source == f"chartqa/{half}") for half in ("human", "augmented")
    }
    assert counts == {"human": 158, "augmented": 124}
    assert len({d.image for d in records}) == 153
    assert sum(len(d.turns) for d in found(realdata(), "train")) == 91
