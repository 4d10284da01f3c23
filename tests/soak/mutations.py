"""Mutated inputs for every reader, picture, metric and loader: what a damaged or hostile disk may hold.

``CASES`` maps a name to a function of a seeded generator and an empty folder. Each call makes one mutated input there,
reads it in this process and returns what came of it. A refusal in one line is an ``Outcome`` with an error; any other
exception is a finding and propagates, and so does an ``AssertionError`` where a record is neither accepted nor
quarantined.
"""

from __future__ import annotations

import base64
import copy
import functools
import io
import json
import os
import random
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from fcotvl.core import answers, config
from fcotvl.core.errors import FcotvlError
from fcotvl.core.io import write_json
from fcotvl.core.shards import read_records, write_shards
from fcotvl.data import sources
from fcotvl.data.decoding import Decoded, Decoder, decode, to_item, to_row
from fcotvl.data.lazy_records import FileRecord, Quarantined, Request
from fcotvl.evaluate import metrics
from fcotvl.evaluate.scoring import checked, read_predictions, score_predictions
from fcotvl.evaluate.submission import submission
from fcotvl.report.inputs import Audit, read_json
from fcotvl.stages.audit import run as audit_page
from tests.support import datasets as support

MAX_PIXELS = 1_000_000
DIGITS = "9" * 5000
"""More digits than ``int`` converts; in JSON it stands without quotes."""
_LONG = "\x01long\x01"
"""Placeholder of ``DIGITS`` in a JSON value, which could not be written otherwise."""


@dataclass(frozen=True)
class Outcome:
    """What came of one mutated input."""

    accepted: int
    quarantined: int
    error: str | None = None
    """The one line of a refusal."""


Case = Callable[[random.Random, Path], Outcome]


def refusal(error: FcotvlError) -> Outcome:
    """The outcome of an input that was refused as a whole."""
    text = str(error)
    assert text.strip(), f"{type(error).__name__} says nothing"
    assert "\n" not in text.strip(), f"more than one line: {text!r}"
    return Outcome(0, 0, text)


# --- values, bytes, files ------------------------------------------------------------------------


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def evil_text(rng: random.Random) -> str:
    """A text that a field does not expect."""
    return rng.choice(
        [
            "",
            " ",
            "\n",
            "\0",
            "a\0b",
            "\ud800",
            "a\udcffb.png",
            "./",
            ".",
            "..",
            "a/..",
            "../../a.png",
            "/etc/hostname",
            "a/",
            "x" * 300,
            "x" * 5000,
            DIGITS,
            "-1",
            "\u0663\u0664",
            "\u00b2",
            "1e999",
            "nan",
            "{{}}",
            "{[1]}",
            "[1, 2]",
            "['a', 'b']",
            "['[1, 2]']",
            "[0x" + "f" * 5000 + "]",
            "[" * 300,
            "-" * 5000 + "1",
            "['\\ud800']",
            "$\\frac{$",
            "<b>&amp;|</b>",
            "\u0130\u00df\ufb03",
            "".join(chr(rng.randrange(1, 0x110000)) for _ in range(rng.randrange(1, 12))),
        ]
    )


def evil_value(rng: random.Random) -> Any:
    """A JSON value that a field does not expect."""
    return rng.choice(
        [
            None,
            True,
            False,
            0,
            -1,
            1.5,
            1e308,
            10**400,
            float("nan"),
            float("inf"),
            _LONG,
            [],
            {},
            [[]],
            [None],
            {"": None},
            _nested(rng.choice([3, 400])),
            evil_text(rng),
            [evil_text(rng), evil_text(rng)],
            {evil_text(rng): evil_text(rng)},
        ]
    )


def mutate_value(rng: random.Random, value: Any) -> Any:
    """``value`` with one part replaced, deleted, doubled or renamed, at a random depth; its own list stays as long."""
    holders = [holder for holder in _walk(value) if holder]
    if not holders or rng.random() < 0.05:
        return evil_value(rng)
    holder = rng.choice(holders)
    key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    action = rng.randrange(5)
    if action == 0:
        del holder[key]
    elif action == 1 and isinstance(holder, dict):
        holder[evil_text(rng)] = holder.pop(key)
    elif action == 1:
        holder.append(holder[key])
    elif action == 2 and isinstance(holder[key], str):
        place = rng.randrange(len(holder[key]) + 1)
        holder[key] = holder[key][:place] + evil_text(rng) + holder[key][place:]
    else:
        holder[key] = evil_value(rng)
    return value


def _walk(value: Any) -> Iterator[dict[str, Any] | list[Any]]:
    if isinstance(value, dict | list):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _walk(inner)


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """``data`` with some bytes changed, cut off, left out or put in."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 8, 64])):
        place = rng.randrange(len(changed)) if changed else 0
        action = rng.randrange(6)
        if action <= 1 and changed:
            changed[place] = rng.randrange(256)
        elif action == 2 and changed:
            changed[place] ^= 1 << rng.randrange(8)
        elif action == 3:
            del changed[place : place + rng.choice([1, 4, 100])]
        elif action == 4:
            changed[place:place] = rng.randbytes(rng.choice([1, 4, 100]))
        else:
            changed[place : place + 4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"])
    if rng.random() < 0.15:
        del changed[rng.randrange(len(changed) + 1) :]
    return bytes(changed)


def json_text(value: Any) -> str:
    """JSON with escaped surrogates, and a number of 5,000 digits where the placeholder stands."""
    return json.dumps(value).replace(json.dumps(_LONG), DIGITS)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as it is, lone surrogates as the bytes that stand for them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8", "surrogateescape" if "\ud800" not in text else "surrogatepass"))


# --- pictures ------------------------------------------------------------------------------------

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
FORMS = (
    "PNG",
    "JPEG",
    "GIF",
    "TIFF",
    "WEBP",
    "BMP",
    "PPM",
    "JPEG2000",
    "DDS",
    "AVIF",
    "ICO",
    "TGA",
    "PCX",
    "SGI",
    "BLP",
)
MODES = ("RGB", "L", "P", "RGBA", "LA", "1", "CMYK", "I;16", "LAB", "F")


@functools.cache
def _encoded(form: str, mode: str, seed: int) -> bytes:
    image = support.picture(seed, (40, 30))
    if mode == "LAB":
        image = Image.merge("LAB", image.split())
    elif mode in ("I;16", "F"):
        image = Image.fromarray(np.asarray(image.convert("L")).astype("uint16" if mode == "I;16" else "float32"))
    else:
        image = image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    try:
        return support.encoded(image, form, **({"exif": exif} if seed % 2 and form in ("PNG", "JPEG", "TIFF") else {}))
    except (OSError, ValueError, KeyError):  # this form has no such mode, or this Pillow no such form
        return support.encoded(image.convert("RGB"), "PNG")


def picture(rng: random.Random) -> bytes:
    """An encoded picture in one of many forms and modes, mostly mutated."""
    if rng.random() < 0.05:
        return rng.choice([b"", EPS, b"BLP2" + bytes(200), b"DDS " + bytes(200), b"%PDF-1.4", b"<svg/>", b"\0" * 100])
    data = _encoded(rng.choice(FORMS), rng.choice(MODES), rng.randrange(4))
    return mutate_bytes(rng, data) if rng.random() < 0.8 else data


def place(rng: random.Random, path: Path, outside: Path) -> None:
    """Put something in the place of the picture ``path``: bytes, a link, a pipe, a folder or nothing."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    action = rng.randrange(10)
    if action == 0:
        os.mkfifo(path)
    elif action == 1:
        path.mkdir()
    elif action == 2:
        path.symlink_to(path)
    elif action == 3:
        path.symlink_to(outside)
    elif action == 4:
        path.symlink_to("/dev/null")
    elif action > 5:
        path.write_bytes(picture(rng))


# --- readers -------------------------------------------------------------------------------------


@dataclass
class Layout:
    """A small data set in its official layout, in memory."""

    reader: str
    annotations: str
    """The file of annotations below ``raw``."""
    rows: list[Any]
    """Its rows, each about one question or one picture."""
    pictures: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    wrap: Callable[[list[Any]], str] = json_text
    """The rows as the text of the file."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Further files."""
    rows_of: Callable[[FileRecord], int] = lambda record: 1
    """How many rows a record stands for."""
    is_passed: Callable[[Any], bool] = lambda row: False
    """Whether a row is passed over: it belongs to another split."""


def _data(rows: list[Any]) -> str:
    return json_text({"dataset_name": "x", "data": rows})


def _lines(rows: list[Any]) -> str:
    return "\n".join(json_text(row) for row in rows)


def _questions(record: FileRecord) -> int:
    return len(record.turns)


def _line_numbers(record: FileRecord) -> int:
    return len({re.fullmatch(r"(jsonl-d-\d+)(-\d+)?", turn.id)[1] for turn in record.turns})


NAMES = ("a.png", "b.png", "sub/c.png")
TABLE = ["<thead>", "<tr>", "<td>", "</td>", "<td>", "</td>", "</tr>", "</thead>"]


def _docvqa() -> Layout:
    rows = [
        {"questionId": i, "question": "Who?", "image": f"documents/{NAMES[i % 3]}", "answers": ["me", "I"]}
        for i in range(5)
    ]
    pictures = [f"DocVQA/spdocvqa_images/{name}" for name in NAMES]
    return Layout("docvqa", "DocVQA/val_v1.0.json", rows, pictures, {"split": "val"}, wrap=_data, rows_of=_questions)


def _docvqa_text() -> Layout:
    layout = _docvqa()
    rows = [{"context": f"text {i}", "qas": [{"id": i, "question": "Who?"}]} for i in range(3)]
    others = {layout.annotations: _data(layout.rows)}
    return Layout(
        "docvqa-text", "DocVQA/docvqa_val_squad_format.json", rows, layout.pictures, {"split": "val"}, others=others
    )


def _infographicvqa() -> Layout:
    rows = [
        {
            "questionId": i,
            "question": "When?",
            "image_local_name": NAMES[i % 2],
            "answers": ["1796"],
            "operation/reasoning": [],
        }
        for i in range(4)
    ]
    pictures = [f"InfographicVQA/infographicsvqa_images/{name}" for name in NAMES[:2]]
    file = "InfographicVQA/infographicsVQA_val_v1.0.json"
    return Layout("infographicvqa", file, rows, pictures, {"split": "val"}, wrap=_data, rows_of=_questions)


def _chartqa() -> Layout:
    root = "ChartQA/ChartQA Dataset/test"
    rows = [{"imgname": NAMES[i % 2], "query": f"How many {i}?", "label": "3"} for i in range(4)]
    pictures = [f"{root}/png/{name}" for name in NAMES[:2]]
    return Layout("chartqa", f"{root}/test_human.json", rows, pictures, {"split": "test"}, rows_of=_questions)


def _chartqa_rationales() -> Layout:
    layout = _chartqa()
    rows = [{"image": NAMES[0], "question": "How many 0?", "think": "One by one.", "answer": "3"} for _ in range(2)]
    others = {layout.annotations: json_text(layout.rows[:2])}
    return Layout(
        "chartqa",
        "cot.json",
        rows,
        layout.pictures,
        {"split": "test", "rationales": "cot.json"},
        others=others,
        rows_of=lambda record: 1 - sum(turn.rationale is None for turn in record.turns),
        is_passed=lambda row: True,  # a rationale is no record: it is matched to one, or it is not
    )


def _ocrbench() -> Layout:
    rows = [
        {"dataset_name": "x", "id": i, "image_path": NAMES[i % 3], "question": "What?", "answers": ["a"], "type": "t"}
        for i in range(4)
    ]
    pictures = [f"OCRBench/OCRBench_Images/{name}" for name in NAMES]
    return Layout("ocrbench", "OCRBench/OCRBench.json", rows, pictures, rows_of=_questions)


def _mdpbench() -> Layout:
    rows = [
        {
            "layout_dets": [
                {"category_type": "title", "order": 1, "text": "Second"},
                {"category_type": "text", "order": 0, "text": "First\nline"},
                {"category_type": "header", "order": None, "text": "page"},
            ],
            "page_info": {"image_path": name},
            "extra": {},
        }
        for name in NAMES
    ]
    return Layout("mdpbench", "MDPBench/MDPBench.json", rows, [f"MDPBench/images/{name}" for name in NAMES])


def _mmocr() -> Layout:
    rows = [{"instances": [{"text": "GRAND"}, {"text": "HOTEL"}], "img_path": name} for name in NAMES]
    return Layout(
        "mmocr",
        "toy/labels.json",
        rows,
        [f"toy/imgs/{name}" for name in NAMES],
        {"folder": "toy"},
        wrap=lambda rows: json_text({"metainfo": {}, "data_list": rows}),
    )


def _pubtabnet() -> Layout:
    rows = [
        {
            "filename": name,
            "split": "train",
            "html": {"structure": {"tokens": list(TABLE)}, "cells": [{"tokens": ["<b>", "A", "</b>"]}, {"tokens": []}]},
        }
        for name in NAMES
    ]
    return Layout(
        "pubtabnet",
        "PubTabNet/PubTabNet_2.0.0.jsonl",
        rows,
        [f"PubTabNet/{name}" for name in NAMES],
        wrap=_lines,
        is_passed=lambda row: (
            isinstance(row.get("split"), str) and row["split"].strip() not in ("train", "")
            if isinstance(row, dict)
            else False
        ),
    )


def _wildreceipt() -> Layout:
    rows = [
        {
            "file_name": f"image_files/{name}",
            "height": 30,
            "width": 40,
            "annotations": [
                {"box": [1.0] * 8, "text": "SAFEWAY", "label": 1},
                {"box": [1.0] * 8, "text": "Total", "label": 25},
            ],
        }
        for name in NAMES
    ]
    return Layout(
        "wildreceipt",
        "wildreceipt/train.txt",
        rows,
        [f"wildreceipt/image_files/{name}" for name in NAMES],
        wrap=_lines,
        others={"wildreceipt/class_list.txt": "1 Store_name_value\n25 Others\n"},
    )


def _internvl_jsonl() -> Layout:
    rows: list[Any] = [
        {"image": NAMES[i // 2], "question": "Where?", "question_id": i, "answer": ["here"]} for i in range(3)
    ]
    talk = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "That"}]
    rows += [{"image": NAMES[1], "conversations": copy.deepcopy(talk * 2)} for _ in range(2)]
    return Layout(
        "internvl-jsonl",
        "d.jsonl",
        rows,
        NAMES,
        {"file": "d.jsonl", "source": "jsonl"},
        wrap=_lines,
        rows_of=_line_numbers,
    )


def _vlmevalkit() -> Layout:
    image = base64.b64encode(support.encoded(support.picture(1))).decode()
    rows = [
        {
            "index": str(i),
            "image": image if i != 2 else "0",
            "question": "How?",
            "answer": answer,
            "split": "test_human",
        }
        for i, answer in enumerate(["14", "['0.28', '.28']", "x", ""])
    ]
    return Layout("vlmevalkit", "b.tsv", rows, [], {"file": "b.tsv", "source": "chartqa"}, wrap=_tsv)


def _tsv(rows: list[Any]) -> str:
    columns = ["index", "image", "question", "answer", "split"]
    cells = [[row.get(name, "") if isinstance(row, dict) else row for name in columns] for row in rows]
    return "\n".join("\t".join(map(_cell, row)) for row in [columns, *cells]) + "\n"


def _cell(value: Any) -> str:
    return re.sub(r'[\t\r\n\0"]', " ", value if isinstance(value, str) else json_text(value)) or '""'


LAYOUTS: tuple[Callable[[], Layout], ...] = (
    _docvqa,
    _docvqa_text,
    _infographicvqa,
    _chartqa,
    _chartqa_rationales,
    _ocrbench,
    _mdpbench,
    _mmocr,
    _pubtabnet,
    _wildreceipt,
    _internvl_jsonl,
    _vlmevalkit,
)


def _write_layout(layout: Layout, raw: Path) -> None:
    for number, name in enumerate(layout.pictures):
        support.write_picture(raw / name, number)
    for name, text in layout.others.items():
        write_text(raw / name, text)


def read_layout(make: Callable[[], Layout], rng: random.Random, raw: Path) -> Outcome:
    """Mutate a row, a picture or the file of a layout, and read it as ``curate`` does."""
    layout = make()
    given: int | None = len(layout.rows)
    kind = rng.choice(["row", "row", "row", "row", "picture", "picture", "file", "other", "unusual"])
    if kind == "row":
        for _ in range(rng.choice([1, 1, 2])):
            number = rng.randrange(len(layout.rows))
            layout.rows[number] = mutate_value(rng, layout.rows[number])
    _write_layout(layout, raw)
    path, text = raw / layout.annotations, layout.wrap(layout.rows)
    write_text(path, text)
    if kind == "picture" and layout.pictures:
        place(rng, raw / rng.choice(layout.pictures), _outside(raw))
    elif kind in ("file", "unusual"):
        path.write_bytes(mutate_bytes(rng, path.read_bytes()))
        given = None
    elif kind == "other" and layout.others:
        other = raw / rng.choice(list(layout.others))
        other.write_bytes(mutate_bytes(rng, other.read_bytes()))
        given = None
    if kind == "unusual":
        path.unlink()
        rng.choice([path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to(path), lambda: None])()
    passed = sum(map(layout.is_passed, layout.rows))
    return read_source(layout.reader, raw, layout.options, given, rows_of=layout.rows_of, passed=passed)


def _outside(raw: Path) -> Path:
    """A good picture that is not below ``raw``."""
    path = Path(tempfile.gettempdir()) / "fcotvl-outside.png"
    if not path.exists():
        support.write_picture(path, 7)
    return path


def read_source(
    reader: str,
    raw: Path,
    options: Mapping[str, Any],
    given: int | None,
    *,
    rows_of: Callable[[FileRecord], int] = lambda record: 1,
    passed: int = 0,
) -> Outcome:
    """Read and decode a source; check that every record is accounted for and can be written."""
    try:
        entries = list(sources.read(reader, Request(raw, "test", 0), options))
    except FcotvlError as error:
        return refusal(error)
    if given is not None:
        rows = sum(1 if isinstance(entry, Quarantined) else rows_of(entry) for entry in entries)
        assert given - passed <= rows <= given, f"{given} rows given, {passed} passed over, {rows} accounted for"
    for entry in entries:
        if isinstance(entry, FileRecord):
            entry.split_key()
    items = list(decode(entries, Decoder("test", "CC0", MAX_PIXELS, needs_hash=False)))
    assert len(items) == len(entries), f"{len(entries)} entries became {len(items)} items"
    good = [item for item in items if isinstance(item, Decoded)]
    for item in good:
        assert item.record.decode().size == (item.record.width, item.record.height)
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder), [item.record for item in good], shard_size=2)
        assert [one.id for one in read_records(Path(folder))] == [item.record.id for item in good]
        rows_written = json.loads(json.dumps([to_row(item) for item in items]))
        write_json(Path(folder, "audit.json"), rows_written)
        for item, row in zip(items, rows_written, strict=True):
            assert to_item(row, item.record.image if isinstance(item, Decoded) else b"") == item
    return Outcome(len(good), len(items) - len(good))


def read_funsd(rng: random.Random, raw: Path) -> Outcome:
    """Forms with one annotation file each."""
    form = [
        {"id": 0, "box": [59, 320, 119, 337], "text": "COUNTRY:", "label": "question", "linking": [[0, 1]]},
        {"id": 1, "box": [130, 320, 180, 337], "text": "BELGIUM", "label": "answer", "linking": [[0, 1]]},
    ]
    root = raw / "FUNSD/dataset/training_data"
    names = ["0001", "0002", rng.choice(["0003", "\udcff\udc80", "x y", "$\\frac{$"])]
    for number, name in enumerate(names):
        value: Any = {"form": copy.deepcopy(form)}
        support.write_picture(root / "images" / f"{name}.png", number)
        write_text(root / "annotations" / f"{name}.json", json_text(mutate_value(rng, value) if number else value))
    name = rng.choice(names)
    if rng.random() < 0.5:
        place(rng, root / "images" / f"{name}.png", _outside(raw))
    elif rng.random() < 0.4:
        path = root / "annotations" / f"{name}.json"
        _spoil(rng, path)
    return read_source("funsd", raw, {"split": "train"}, len(list((root / "annotations").iterdir())))


def _spoil(rng: random.Random, path: Path) -> None:
    """Mutate the bytes of ``path``, or put a pipe, a folder or a loop of links in its place."""
    data = path.read_bytes()
    path.unlink()
    rng.choice(
        [
            path.mkdir,
            lambda: os.mkfifo(path),
            lambda: path.symlink_to(path),
            lambda: path.write_bytes(mutate_bytes(rng, data)),
            lambda: path.write_bytes(mutate_bytes(rng, data)),
        ]
    )()


def read_sroie(rng: random.Random, raw: Path) -> Outcome:
    """Receipts with two annotation files each."""
    root = raw / "SROIE2019/train"
    names = ["X1", "X2", rng.choice(["X3", "\udcff", "x y"])]
    for number, name in enumerate(names):
        support.write_picture(root / "img" / f"{name}.jpg", number)
        entities: Any = {"company": "SHOP", "date": "19/10/2018", "address": "27, JALAN", "total": "60.30"}
        boxes = "76,50,323,50,323,84,76,84,TAN WOON YANN\n1,2,3,4,5,6,7,8,60.30\n"
        write_text(root / "entities" / f"{name}.txt", json_text(mutate_value(rng, entities) if number else entities))
        write_text(root / "box" / f"{name}.txt", boxes)
    name = rng.choice(names)
    if rng.random() < 0.5:
        place(rng, root / "img" / f"{name}.jpg", _outside(raw))
    else:
        _spoil(rng, root / rng.choice(["entities", "box"]) / f"{name}.txt")
    return read_source("sroie", raw, {"split": "train"}, None)


def read_hub(rng: random.Random, raw: Path) -> Outcome:
    """Rows of a Parquet file, in one of the formats of hub data sets."""
    image = {"bytes": picture(rng), "path": None}
    chat = [{"user": "Who?", "assistant": "Me"}]
    cells = [[{"tokens": ["A"]}, {"tokens": ["B"]}]]
    name, row = rng.choice(
        [
            ("flat", {"question": "Who?", "answer": "me"}),
            ("flat", {"question": "Who?", "answer": ["me", "I"]}),
            ("chats", {"question": chat}),
            ("columns", {"question": {"question": ["Who?"], "answer": ["me"], "explanation": ["so"]}}),
            ("donut", {"question": json.dumps({"gt_parse": {"text_sequence": "text"}})}),
            ("tables", {"question": list(TABLE), "answer": cells}),
        ]
    )
    row = copy.deepcopy(row)
    if rng.random() < 0.7:
        row = mutate_value(rng, row)
        row = row if isinstance(row, dict) else {"question": row}
    path = raw / "hub" / "train-00000.parquet"
    path.parent.mkdir()
    try:
        pq.write_table(pa.table({name: [value] * 2 for name, value in (row | {"image": image}).items()}), path)
    except (pa.ArrowException, OverflowError, UnicodeError, ValueError):  # Parquet cannot hold such a value
        return Outcome(0, 0, "not written")
    given: int | None = 2
    if rng.random() < 0.3:
        path.write_bytes(mutate_bytes(rng, path.read_bytes()))
        given = None
    options = {"id": str(path.parent), "source": "hub", "format": name}
    try:
        return read_source("huggingface", raw, options, given)
    except FcotvlError as error:
        return refusal(error)


def decode_picture(rng: random.Random, folder: Path) -> Outcome:
    """One mutated picture, through the decoder that curation uses."""
    record = FileRecord("id", "reader", "source", picture(rng), "file", ())
    (item,) = decode([record], Decoder("test", "CC0", MAX_PIXELS, needs_hash=True))
    if isinstance(item, Quarantined):
        assert item.reason.strip()
        return Outcome(0, 1)
    with Image.open(io.BytesIO(item.record.image)) as stored:
        stored.load()
        assert stored.format in ("PNG", "JPEG")
        assert stored.size == (item.record.width, item.record.height)
    return Outcome(1, 0)


# --- metrics and tables --------------------------------------------------------------------------


def score_answers(rng: random.Random, folder: Path) -> Outcome:
    """Every metric, and the judge of training, on texts that nobody expects."""
    texts = ["12.5", "Paris", "yes", "50%", "[2014, 2016]", "9" * 20_000 + "x", "1" + "," * 20_000 + "x"]
    prediction, *references = (evil_text(rng) if rng.random() < 0.7 else rng.choice(texts) for _ in range(4))
    for name in metrics.available():
        assert 0 <= metrics.get(name)(prediction, references) <= 1, name
    assert answers.is_correct(prediction, references) in (True, False)
    assert isinstance(answers.final_answer(f"so\nAnswer: {prediction}"), str)
    return Outcome(1, 0)


def _predictions() -> dict[str, list[Any]]:
    return {
        "system": ["merged"] * 3,
        "benchmark": ["docvqa", "chartqa", "infovqa"],
        "prompt": ["direct", "cot", "direct"],
        "kind": ["extractive"] * 3,
        "image_id": ["a", "b", "c"],
        "question_id": ["docvqa-test-1", "docvqa-test-2", "docvqa-test-3"],
        "source": ["x"] * 3,
        "prediction": ["5", "so\nAnswer: 6", "seven"],
        "references": [["5"], ["6", "7"], ["8"]],
    }


def _write_table(rng: random.Random, columns: dict[str, list[Any]], path: Path) -> bool:
    """Write mutated columns, or mutated bytes; false where Parquet cannot hold such a value."""
    if rng.random() < 0.7:
        for _ in range(rng.choice([1, 1, 2])):
            columns = mutate_value(rng, columns)
            if not isinstance(columns, dict):
                return False
    try:
        # Through pandas, as predict writes: its own metadata is part of the file.
        pd.DataFrame(columns).to_parquet(path, index=False)
    except (pa.ArrowException, OverflowError, UnicodeError, ValueError, TypeError):
        return False
    if rng.random() < 0.4:
        path.write_bytes(mutate_bytes(rng, path.read_bytes()))
    return True


def score_table(rng: random.Random, folder: Path) -> Outcome:
    """A mutated table of predictions, scored."""
    path = folder / "predictions.parquet"
    if not _write_table(rng, _predictions(), path):
        return Outcome(0, 0, "not written")
    try:
        table = read_predictions(path)
        scored = score_predictions(table)
    except FcotvlError as error:
        return refusal(error)
    asked = scored.drop_duplicates(["system", "benchmark", "prompt", "question_id"])
    hidden = sum(len(one) == 0 for one in checked(table)["references"])
    assert len(asked) + hidden == len(table), f"{len(table)} replies, {len(asked)} scored, {hidden} hidden"
    return Outcome(len(asked), hidden)


def submit_table(rng: random.Random, folder: Path) -> Outcome:
    """A mutated table of predictions, as a submission."""
    columns = _predictions() | {"references": [[]] * 3}
    for _ in range(rng.choice([1, 2])):
        columns = mutate_value(rng, columns)
        if not isinstance(columns, dict):
            return Outcome(0, 0, "not written")
    try:
        table = pd.DataFrame(columns)
    except (ValueError, TypeError):  # columns of different lengths
        return Outcome(0, 0, "not written")
    try:
        rows = json.loads(submission(checked(table), _predictions()["question_id"]))
    except FcotvlError as error:
        return refusal(error)
    assert len(rows) == len(table)
    assert [row["answer"] for row in rows if row["answer"] in ("None", "nan", "<NA>")] == []
    return Outcome(len(rows), 0)


def read_shards(rng: random.Random, folder: Path) -> Outcome:
    """Mutated shards of a corpus."""
    write_shards(folder, [support.record(seed) for seed in range(3)], shard_size=2)
    path = rng.choice(sorted(folder.iterdir()))
    path.write_bytes(mutate_bytes(rng, path.read_bytes()))
    count = 0
    try:
        for record in read_records(folder):
            record.decode()
            count += 1
    except FcotvlError as error:
        return refusal(error)
    return Outcome(count, 0)


# --- checkpoints ---------------------------------------------------------------------------------


@functools.cache
def _teacher() -> Any:
    from tests.support import models  # noqa: PLC0415 - torch; only these cases need it

    return models.teacher()


@functools.cache
def _student_file() -> bytes:
    from fcotvl.compress.checkpoints import make_student, save_student_tensors  # noqa: PLC0415 - likewise

    student = make_student(_teacher(), compressor="cnn", ratio=0.5)
    names = [name for name, _ in student.named_parameters() if "compressor" in name or "projector" in name]
    with tempfile.TemporaryDirectory() as folder:
        save_student_tensors(student, Path(folder, "s.safetensors"), stage="distill", names=names)
        return Path(folder, "s.safetensors").read_bytes()


@functools.cache
def _teacher_files() -> dict[str, bytes]:
    from tests.support import models  # noqa: PLC0415 - likewise

    with tempfile.TemporaryDirectory() as folder:
        _teacher().save_pretrained(folder)
        models.processor().save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _mutate_header(rng: random.Random, data: bytes) -> bytes:
    """A safetensors file with a mutated header, which still fits its length."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    if rng.random() < 0.5 and "fcotvl" in header.get("__metadata__", {}):
        inner = mutate_value(rng, json.loads(header["__metadata__"]["fcotvl"]))
        header["__metadata__"]["fcotvl"] = json_text(inner)
    else:
        header = mutate_value(rng, header)
    text = json_text(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def load_student_file(rng: random.Random, folder: Path) -> Outcome:
    """A mutated file of trained tensors, loaded over the teacher."""
    from fcotvl.compress.checkpoints import load_student  # noqa: PLC0415 - likewise

    data, path = _student_file(), folder / "s.safetensors"
    if rng.random() < 0.05:
        path.mkdir()
    else:
        path.write_bytes(_mutate_header(rng, data) if rng.random() < 0.6 else mutate_bytes(rng, data))
    try:
        student = load_student(_teacher(), [path], share_frozen=True)
    except FcotvlError as error:
        return refusal(error)
    assert all(parameter.isfinite().all() for parameter in student.parameters())
    return Outcome(1, 0)


def load_teacher_folder(rng: random.Random, folder: Path) -> Outcome:
    """A teacher's folder in which one file is mutated."""
    from fcotvl.compress.checkpoints import load_processor, load_teacher  # noqa: PLC0415 - likewise

    files = dict(_teacher_files())
    name = rng.choice(sorted(files))
    if name.endswith(".json") and rng.random() < 0.7:
        files[name] = json_text(mutate_value(rng, json.loads(files[name]))).encode()
    elif name.endswith(".safetensors") and rng.random() < 0.6:
        files[name] = _mutate_header(rng, files[name])
    elif rng.random() < 0.1:
        del files[name]
    else:
        files[name] = mutate_bytes(rng, files[name])
    for each, data in files.items():
        (folder / each).write_bytes(data)
    try:
        load_teacher(folder)
        load_processor(folder)
    except FcotvlError as error:
        return refusal(error)
    return Outcome(1, 0)


def read_report_inputs(rng: random.Random, folder: Path) -> Outcome:
    """A mutated audit, as the audit's page and as the report read it."""
    source = dict.fromkeys(("read", "kept", "duplicates", "contaminated", "quarantined", "repeats"), 1)
    source |= {"share_asked": 1.0, "share_kept": 1.0, "epochs": 1.0, "ran_dry": False, "absent": None}
    split = {f"by_{name}": {"x": 1} for name in ("source", "licence", "kind", "answer", "longer_side")}
    tiles = {"mean": 1.5, "median": 1, "p95": 2, "max": 2, "total": 3}
    split |= {"tiles": dict(tiles), "answer_characters": {}, "visual_tokens": {"0.5": tiles}}
    split |= {"sources": {"rendered": source}}
    dropped = [{"split": "align", "as": "quarantined", "file": "a.png", "reason": "damaged"}]
    audit = {"corpus": {"align": copy.deepcopy(split)}, "benchmarks": {"docvqa": split}, "dropped": dropped}
    path = folder / "audit.json"
    for _ in range(rng.choice([1, 1, 2])):
        audit = mutate_value(rng, audit) if isinstance(audit, dict) else audit
    write_text(path, json_text(audit))
    if rng.random() < 0.3:
        path.write_bytes(mutate_bytes(rng, path.read_bytes()))
    try:
        read_json(path, Audit, "curate", "an audit")
        audit_page(config.load(scale="smoke", mix="smoke"), audit=path, page=folder / "audit.html")
    except FcotvlError as error:
        return refusal(error)
    return Outcome(1, 0)


CASES: dict[str, Case] = {
    **{f"read {make.__name__.strip('_')}": functools.partial(read_layout, make) for make in LAYOUTS},
    "read funsd": read_funsd,
    "read sroie": read_sroie,
    "read huggingface": read_hub,
    "decode picture": decode_picture,
    "score answers": score_answers,
    "score table": score_table,
    "submit table": submit_table,
    "read shards": read_shards,
    "read report inputs": read_report_inputs,
    "load student": load_student_file,
    "load teacher": load_teacher_folder,
}
"""By name."""
