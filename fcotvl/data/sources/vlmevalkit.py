"""Benchmarks as VLMEvalKit's tables ship them: one TSV with the images in base64.

One row of ``ChartQA_TEST.tsv``, the image shortened: index 0, image ``iVBORw0KGgo...``, question "How many food item is
shown in the bar graph?", answer "14", split "test_human". Several answers are a Python list, ``['0.28', '.28']``; a
short text in place of an image is the index of the row that has it.
"""

import base64
import csv
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from fcotvl.core.errors import DataError
from fcotvl.core.literals import read_list
from fcotvl.core.records import Turn
from fcotvl.data import fields
from fcotvl.data.annotations import existing, open_file, parse_each
from fcotvl.data.lazy_records import FileEntries, FileRecord, Request

MAX_FIELD = 1 << 28
"""Characters that a field may have: a page in base64."""
REFERENCE = 64
"""Characters below which an image is the index of another row's image."""
Row = dict[str, Any]
REQUIRED = {"index", "image", "question"}


def read(request: Request, *, file: str, source: str, kind: str = "extractive") -> FileEntries:
    """One record per row of ``file`` (below ``data.raw``), in order.

    The last word of a ``split`` column is added to ``source``: ``test_human`` makes ``chartqa`` into ``chartqa/human``.
    """
    path = existing(request.raw, file, "vlmevalkit")
    first = next((row for row in _table(path) if not isinstance(row, DataError)), {})
    if missing := REQUIRED - set(first):
        raise DataError(f"{path} has no column {', '.join(sorted(missing))}; found {list(first)}")
    return _rows(path, source, kind)


def _table(path: Path) -> Iterator[Row | DataError]:
    """Each row, or what is wrong with it."""
    csv.field_size_limit(MAX_FIELD)
    with TextIOWrapper(open_file(path), encoding="utf-8-sig", errors="replace", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t")
        while True:
            try:
                yield next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield DataError(f"not a row of a table ({error})")


def _rows(path: Path, source: str, kind: str) -> FileEntries:
    images = (row["image"] for row in _table(path) if not isinstance(row, DataError))
    shared = {value: b"" for value in images if value and len(value) < REFERENCE}

    def parse(_number: int, row: Row) -> FileRecord:
        image = _image(row, shared)
        index = fields.text(row, "index")
        half = (row.get("split") or "").rpartition("_")[2]
        name, shown = f"{path.stem}-{index}", f"{path.name}, index {index}"
        turn = Turn(name, fields.text(row, "question"), _answers(row.get("answer") or ""), kind)
        whole = f"{source}/{half}" if half else source
        return FileRecord(name, "vlmevalkit", whole, image, shown, (turn,))

    yield from parse_each(_table(path), parse, where=f"{path.name}, row", reader="vlmevalkit")


def _image(row: Row, shared: dict[str, bytes]) -> bytes:
    """The row's picture, kept in ``shared`` where later rows refer to it."""
    value = fields.text(row, "image")
    if len(value) < REFERENCE:
        if not shared.get(value):
            raise DataError(f"image refers to row {value!r}, which has none before this one")
        return shared[value]
    try:
        image = base64.b64decode(value, validate=True)
    except ValueError as error:
        raise DataError(f"image is not base64 ({error})") from error
    if row["index"] in shared:
        shared[row["index"]] = image
    return image


def _answers(value: str) -> tuple[str, ...]:
    """The items of a Python list of texts, or the one text: ``[Gambia, Niger]`` is not a list.

    Not stripped, since VLMEvalKit compares them as they are. A single item that reads as a list itself is given twice:
    the metric ``relaxed_vlmevalkit`` takes a lone reference of that kind for the list of several.
    """
    found = read_list(value)
    if found is not None and all(isinstance(item, str) for item in found):
        items = tuple(dict.fromkeys(found))
        return items * 2 if len(items) == 1 and read_list(items[0]) else items
    return (value,) if value.strip() else ()
