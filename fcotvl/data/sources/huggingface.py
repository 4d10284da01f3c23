"""Data sets of the Hugging Face hub, streamed, with any names of columns.

A row of ``HuggingFaceM4/ChartQA``: {"image": <picture>, "query": "How many food item is shown in
the bar graph?", "label": ["14"], "human_or_machine": 0}, read with ``question: query`` and
``answer: label``. How hub data sets hold several questions is in ``fcotvl.data.row_formats``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from fcotvl.core.errors import DataError, ParamsError
from fcotvl.core.records import Turn
from fcotvl.data import row_formats
from fcotvl.data.annotations import text
from fcotvl.data.lazy_records import FileEntries, FileRecord, Quarantined, Request

OWN_CHUNKS = True
"""A chunk is one of the data set's files: reading a later one downloads none before it."""
UNREACHABLE = (OSError, ValueError, RuntimeError)
"""What ``datasets`` raises where the hub, an id, a config or a split is not available."""


def read(
    request: Request,
    *,
    id: str,  # noqa: A002 - the hub's word
    source: str,
    config: str = "",
    split: str = "train",
    revision: str = "",
    format: str = "flat",  # noqa: A002 - the word of the mix
    image: str = "image",
    question: str = "question",
    answer: str = "answer",
    kind: str = "extractive",
    half: str = "",
) -> FileEntries:
    """The rows of a split as records, in the hub's order, never all of them on disk.

    A row is named by the number of its file in the split and its number there.

    Args:
        request: what to read.
        id: of the data set; a folder with Parquet files works too.
        source: of the records.
        config: of the data set.
        split: of the data set.
        revision: a commit or tag of the data set.
        format: how a row holds its questions, one of ``fcotvl.data.row_formats.FORMATS``.
        image: column of the picture, or of a list with one picture.
        question: column of the question, or of whatever the format reads.
        answer: column of the answer or answers.
        kind: of the questions.
        half: column whose text is added to the source up to its first underscore: ``human_test``
            makes ``chartqa`` into ``chartqa/human``.

    Raises:
        DataError: the hub, the data set or a column is not available.
        ParamsError: ``format`` is unknown.
    """
    if format not in row_formats.FORMATS:
        known = ", ".join(row_formats.FORMATS)
        raise ParamsError(f"huggingface: no format {format!r}; there are {known}")
    rows = _stream(id, config, split, revision, image)
    last = rows.num_shards if request.last is None else min(request.last, rows.num_shards)

    def turns(row: Any, name: str) -> tuple[Turn, ...]:
        return row_formats.turns(format, row, name, question=question, answer=answer, kind=kind)

    def origin(row: Any) -> str:
        return f"{source}/{text(row, half).partition('_')[0]}" if half else source

    def entries() -> FileEntries:
        for number in range(request.first, last):
            for place, row in enumerate(_rows(rows, number, f"{id} {split}")):
                row_id = f"{source}-{split}-{number}-{place}"
                shown = f"{id} {split}, row {number}:{place}"
                try:
                    asked = turns(row, row_id)
                    picture = _picture(row, image)
                    yield FileRecord(row_id, "huggingface", origin(row), picture, shown, asked)
                except DataError as error:
                    yield Quarantined(shown, "huggingface", str(error))

    return entries()


def _stream(name: str, config: str, split: str, revision: str, image: str) -> Any:
    from datasets import Image, List, load_dataset  # noqa: PLC0415 - slow, and needed only here

    try:
        found = load_dataset(
            name, config or None, split=split, revision=revision or None, streaming=True
        )
        features = found.features or {}
        raw = Image(decode=False)
        if isinstance(features.get(image), Image):
            found = found.cast_column(image, raw)
        elif isinstance(features.get(image), List):
            found = found.cast_column(image, List(raw))
    except UNREACHABLE as error:
        raise DataError(
            f"data set {name!r} {config} {split} cannot be read ({_one_line(error)}); check its id "
            "and the connection, or use data sets on disk (mix local)"
        ) from error
    if features and image not in features:
        raise DataError(
            f"data set {name!r} has no column {image!r}; there are {', '.join(features)}"
        )
    return found


def _rows(rows: Any, number: int, name: str) -> Iterator[Any]:
    """The rows of file ``number``."""
    stream = iter(rows.shard(rows.num_shards, number))
    for place in count():
        try:
            row = next(stream, None)
        except UNREACHABLE as error:
            raise DataError(
                f"{name}: reading stopped at {number}:{place} ({_one_line(error)})"
            ) from error
        if row is None:
            return
        yield row


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _picture(row: dict[str, Any], column: str) -> bytes:
    value = row[column]
    if isinstance(value, list):
        if len(value) != 1:
            raise DataError(f"{column} holds {len(value)} pictures, expected one")
        value = value[0]
    if isinstance(value, dict):
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise DataError(f"{column} holds {type(value).__name__}, expected an encoded picture")
    return value
