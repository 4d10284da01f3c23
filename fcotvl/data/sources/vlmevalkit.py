"""Benchmarks as VLMEvalKit's tables ship them: one TSV with the images in base64.

One row of ``ChartQA_TEST.tsv``, the image shortened: index 0, image ``iVBORw0KGgo...``, question
"How many food item is shown in the bar graph?", answer "14", split "test_human". Several answers
are a Python list, ``['0.28', '.28']``; a short text in place of an image is the index of the row
that has it.
"""

from __future__ import annotations

import ast
import base64
import binascii
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data.annotations import existing, text
from fcotvl.data.lazy_records import FileDraft, Quarantined, Request

FIELD = 1 << 28
"""Characters that a field may have: a page in base64."""
REFERENCE = 64
"""Characters below which an image is the index of another row's image."""
Row = dict[str, Any]
NEEDED = {"index", "image", "question"}


def read(
    request: Request, *, file: str, source: str, kind: str = "extractive"
) -> Iterator[FileDraft | Quarantined]:
    """One record per row, in order.

    Args:
        request: what is asked for.
        file: the table, relative to ``data.raw``.
        source: what the records call their source; a ``split`` column's last word is added to it:
            ``test_human`` makes ``chartqa`` into ``chartqa/human``.
        kind: of the questions.

    Raises:
        DataError: there is no such file, or it has not the columns.
    """
    path = existing(request.raw, file, "vlmevalkit")
    head = next(_table(path), {})
    if missing := NEEDED - set(head):
        raise DataError(f"{path} has no column {', '.join(sorted(missing))}; found {list(head)}")
    return _rows(path, source, kind)


def _table(path: Path) -> Iterator[Row]:
    csv.field_size_limit(FIELD)
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        yield from csv.DictReader(lines, delimiter="\t")


def _rows(path: Path, source: str, kind: str) -> Iterator[FileDraft | Quarantined]:
    named = (row["image"] for row in _table(path))
    shared = {value: b"" for value in named if value and len(value) < REFERENCE}
    for number, row in enumerate(_table(path)):
        try:
            image = _image(row, shared)
            yield _draft(row, image, path, source, kind)
        except DataError as error:
            yield Quarantined(f"{path.name}, row {number}", "vlmevalkit", str(error))


def _image(row: Row, shared: dict[str, bytes]) -> bytes:
    """The row's picture; those that later rows refer to are kept in ``shared``."""
    value = text(row, "image")
    if len(value) < REFERENCE:
        if not shared.get(value):
            raise DataError(f"image refers to row {value!r}, which has none before this one")
        return shared[value]
    try:
        image = base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise DataError(f"image is not base64 ({error})") from error
    if row["index"] in shared:
        shared[row["index"]] = image
    return image


def _draft(row: Row, image: bytes, path: Path, source: str, kind: str) -> FileDraft:
    index = text(row, "index")
    half = (row.get("split") or "").rpartition("_")[2]
    name = f"{path.stem}-{index}"
    turn = Turn(name, text(row, "question"), _answers(row.get("answer") or ""), kind)
    return FileDraft(
        id=name,
        reader="vlmevalkit",
        source=f"{source}/{half}" if half else source,
        image=image,
        file=f"{path.name}, index {index}",
        turns=(turn,),
    )


def _answers(value: str) -> tuple[str, ...]:
    """A list where the text is one; ``[Gambia, Niger]`` is a text."""
    value = value.strip()
    if value.startswith("["):
        try:
            found = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found = None
        if isinstance(found, list) and all(isinstance(item, str) for item in found):
            return tuple(dict.fromkeys(item.strip() for item in found))
    return (value,) if value else ()
