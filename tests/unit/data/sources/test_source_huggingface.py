"""Data sets of the hub, from Parquet files: every format, one line for what is not available."""

import socket

import aiohttp
import datasets
import pytest
import urllib3
from huggingface_hub import constants
from huggingface_hub.utils import get_session

from fcotvl.core.errors import DataError, ParamsError
from fcotvl.data import sources
from fcotvl.data.lazy_records import Quarantined, Request
from fcotvl.data.sources.huggingface import _numbered_rows, read
from tests.support.datasets import encoded, picture

IMAGE = {"bytes": encoded(picture(1)), "path": None}
VOTES = {"format": "votes", "answer": "answers"}


def found(folder, rows, images=False, **options):
    features = None
    table = datasets.Dataset.from_list(rows, features=features)
    kind = datasets.List(datasets.Image()) if images else datasets.Image()
    table = table.cast_column("images" if images else "image", kind)
    (folder / "hub").mkdir()
    table.to_parquet(folder / "hub" / "train-00000.parquet")
    request = Request(raw=folder, split="align", seed=0)
    return list(read(request, id=str(folder / "hub"), source="hub", **options))


def test_flat_rows_are_mapped_by_column(tmp_path):
    rows = [{"image": IMAGE, "query": "How many?", "label": ["14"], "type": "human_test"}]
    (record,) = found(tmp_path, rows, question="query", answer="label", half="type")
    assert record.image == IMAGE["bytes"]
    assert (record.turns[0].question, record.turns[0].answers) == ("How many?", ("14",))
    assert record.source == "hub/human"


def test_equal_answers_of_several_people_all_count_and_what_most_said_comes_first(tmp_path):
    cases = [
        (["red", "red ", ""], ("red", "red", "")),
        ([{"answer": "red", "answer_id": 1}, {"answer": "red", "answer_id": 2}], ("red", "red")),
        (["", "blue", "", "", "red", "red"], ("red", "red", "", "blue", "", "")),
        (["", ""], ("", "")),
        (None, ()),
    ]
    for number, (given, expected) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        (record,) = found(folder, [{"image": IMAGE, "question": "Which?", "answers": given}], **VOTES)
        assert record.turns[0].answers == expected
    (bad,) = found(folder / "hub", [{"image": IMAGE, "question": "Which?", "answers": [1, 2]}], **VOTES)
    assert "answer is int 1, expected text" in bad.reason


def test_formulas_of_ocrbench_are_told_from_text(tmp_path):
    rows = [
        {"image": IMAGE, "dataset": "HME100k", "question": "Which formula?", "answer": ["x _ 2\n"]},
        {"image": IMAGE, "dataset": "IAM", "question": "Which words?", "answer": ["x _ 2"]},
    ]
    formula, text = found(tmp_path, rows, format="ocrbench")
    assert (formula.turns[0].answers, text.turns[0].answers) == (("$x _ 2$",), ("x _ 2",))


def test_options_are_lettered(tmp_path):
    row = {"image": IMAGE, "question": "Which is a plant?", "options": ["Fox", "Oak", "Oak"], "answer": "1"}
    good, bad = found(tmp_path, [row, row | {"answer": "3"}], format="options")
    assert good.turns[0].question == "Which is a plant?\nA. Fox\nB. Oak\nC. Oak"
    assert good.turns[0].answers == ("B",)
    assert bad.reason == "answer is 3 of 3 options, counted from 0"


def test_chats_have_one_question_a_turn(tmp_path):
    texts = [
        {"user": "Question: Who?\nAnswer briefly.", "assistant": "Answer: Me", "source": "x"},
        {"user": "When?", "assistant": "Now", "source": "x"},
    ]
    rows = [{"images": [IMAGE], "texts": texts}, {"images": [IMAGE, IMAGE], "texts": texts}]
    options = {"format": "chats", "image": "images", "question": "texts"}
    one, two = found(tmp_path, rows, images=True, **options)
    assert [(t.question, t.answers) for t in one.turns] == [("Who?", ("Me",)), ("When?", ("Now",))]
    assert isinstance(two, Quarantined)
    assert "2 pictures" in two.reason


def test_parallel_columns_bring_their_explanations(tmp_path):
    pairs = {"question": ["Sum?"], "answer": ["3"], "explanation": ["1 + 2 = 3"]}
    rows = [{"image": IMAGE, "qa_pairs": pairs}]
    (record,) = found(tmp_path, rows, format="columns", question="qa_pairs")
    assert (record.turns[0].kind, record.turns[0].rationale) == ("reason", "1 + 2 = 3")


def test_donut_texts_are_read_aloud(tmp_path):
    rows = [
        {"image": IMAGE, "ground_truth": '{"gt_parse": {"text_sequence": "all  of it"}}'},
        {"image": IMAGE, "ground_truth": "{}"},
    ]
    good, bad = found(tmp_path, rows, format="donut", question="ground_truth")
    assert good.turns[0].answers == ("all of it",)
    assert isinstance(bad, Quarantined)


def test_tables_are_written_out(tmp_path):
    html = ["<tr>", "<td>", "</td>", "<td>", "</td>", "</tr>"]
    rows = [{"image": IMAGE, "html": html, "cells": [[{"tokens": ["<b>", "A", "</b>"]}, {"tokens": [" ", "B"]}]]}]
    (record,) = found(tmp_path, rows, format="tables", question="html", answer="cells")
    assert record.turns[0].answers == ("| A | B |\n| --- | --- |",)


def test_a_bad_row_is_set_aside(tmp_path):
    rows = [
        {"image": IMAGE, "question": None, "answer": "x"},
        {"image": None, "question": "Who?", "answer": "x"},
        {"image": IMAGE, "question": "Who?", "answer": "x"},
    ]
    items = found(tmp_path, rows)
    assert [isinstance(item, Quarantined) for item in items] == [True, True, False]


def test_files_are_read_apart_as_they_are_together(tmp_path):
    for number, rows in enumerate((2, 3, 1)):
        asked = [{"image": IMAGE, "question": f"{number}:{row}?", "answer": "x"} for row in range(rows)]
        table = datasets.Dataset.from_list(asked).cast_column("image", datasets.Image())
        table.to_parquet(tmp_path / f"train-{number:05d}-of-00003.parquet")

    def records(first, last):
        request = Request(raw=tmp_path, split="align", seed=0, first=first, last=last)
        return list(sources.read("huggingface", request, {"id": str(tmp_path), "source": "hub"}))

    whole = records(0, None)
    assert [record.turns[0].question for record in whole] == ["0:0?", "0:1?", "1:0?", "1:1?", "1:2?", "2:0?"]
    assert len({record.id for record in whole}) == 6
    assert [*records(0, 1), *records(1, 2), *records(2, None)] == whole
    assert records(1, 9) == whole[2:]
    assert records(3, 4) == records(5, None) == []


CARD = """---
configs:
- config_name: forms
  data_files: forms/train-*
- config_name: letters
  data_files:
  - {split: train, path: letters/train-*}
  - {split: test, path: letters/test-*}
---
"""


def write_letters(folder):
    """A data set with a card that lists two configs; the files of one are there."""
    (folder / "letters").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    for split, rows in (("train", 3), ("test", 2)):
        asked = [{"image": IMAGE, "question": f"{split} {row}?", "answer": "x"} for row in range(rows)]
        table = datasets.Dataset.from_list(asked).cast_column("image", datasets.Image())
        table.to_parquet(folder / f"letters/{split}-00000-of-00001.parquet")


def letters(tmp_path, **options):
    return list(read(Request(raw=tmp_path, split="align", seed=0), source="x", config="letters", **options))


def test_of_a_folder_the_config_that_is_read_is_enough(tmp_path):
    write_letters(tmp_path / "mail")
    assert [one.turns[0].question for one in letters(tmp_path, id=str(tmp_path / "mail"), split="test")] == [
        "test 0?",
        "test 1?",
    ]
    with pytest.raises(DataError, match="forms train cannot be read"):
        read(Request(raw=tmp_path, split="align", seed=0), id=str(tmp_path / "mail"), source="x", config="forms")


def test_offline_the_hubs_cache_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / "datasets--post--mail"
    write_letters(cached / "snapshots/0123")
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text("0123")
    assert [one.file for one in letters(tmp_path, id="post/mail")] == [f"post/mail train, row 0:{i}" for i in range(3)]
    with pytest.raises(DataError, match="'post/parcels' letters train cannot be read"):
        letters(tmp_path, id="post/parcels")


def test_what_cannot_be_had_is_one_line(tmp_path):
    rows = [{"image": IMAGE, "question": "Who?", "answer": "x"}]
    with pytest.raises(DataError, match="has no column 'picture'; there are image"):
        found(tmp_path, rows, image="picture")
    request = Request(raw=tmp_path, split="align", seed=0)
    with pytest.raises(ParamsError, match="no format 'round'"):
        read(request, id="x", source="x", format="round")
    with pytest.raises(DataError, match=r"'.*nowhere' .* cannot be read") as error:
        read(request, id=str(tmp_path / "nowhere"), source="x")
    assert "\n" not in str(error.value)


class Rows:
    """A file of a data set that is lost after its first row."""

    num_shards = 1

    def __init__(self, lose):
        self.lose = lose

    def shard(self, _count, _number):
        yield {"question": "Who?"}
        self.lose()


def ask_a_closed_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
    get_session().get(address)


def raise_payload_error():
    raise aiohttp.ClientPayloadError


def raise_protocol_error():
    raise urllib3.exceptions.ProtocolError("Connection broken:\n0 bytes read")


@pytest.mark.parametrize(
    ("lose", "reason"),
    [
        (ask_a_closed_port, "Connection refused"),
        (raise_payload_error, "ClientPayloadError"),
        (raise_protocol_error, "Connection broken: 0 bytes read"),
    ],
)
def test_a_connection_that_is_lost_between_rows_is_one_line(lose, reason):
    rows = _numbered_rows(Rows(lose), range(1), "x train")
    assert next(rows)[0] == "0:0"
    with pytest.raises(DataError, match=f"x train: reading stopped at 0:1 .*{reason}.* run it again") as error:
        next(rows)
    assert "\n" not in str(error.value)


def test_what_no_library_raised_keeps_its_traceback():
    def fail():
        raise KeyError("column")

    with pytest.raises(KeyError):
        list(_numbered_rows(Rows(fail), range(1), "x train"))
