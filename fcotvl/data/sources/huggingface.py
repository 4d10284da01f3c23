"""Data sets of the Hugging Face hub, streamed, whatever they call their columns.

A row of ``HuggingFaceM4/ChartQA``: {"image": <picture>, "query": "How many food item is shown in
the bar graph?", "label": ["14"], "human_or_machine": 0}, read with ``question: query`` and
``answer: label``. How hub data sets hold several questions is in ``fcotvl.data.row_formats``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from fcotvl.core.errors import DataError, ParamsError
from fcotvl.core.records import Turn
from fcotvl.data import row_formats as shapes
from fcotvl.data.annotations import text
from fcotvl.data.lazy_records import FileDraft, Quarantined, Request

OWN_CUTS = True
"""They are the data set's files: reading a later one fetches none before it."""
UNREACHABLE = (OSError, ValueError, RuntimeError)
"""What ``datasets`` raises where the hub, an id, a config or a split cannot be had."""


def read(
    request: Request,
    *,
    id: str,  # noqa: A002 - the hub's word
    source: str,
    config: str = "",
    split: str = "train",
    revision: str = "",
    shape: str = "flat",
    image: str = "image",
    question: str = "question",
    answer: str = "answer",
    kind: str = "extractive",
    half: str = "",
) -> Iterator[FileDraft | Quarantined]:
    """The rows of a split as records, in the hub's order, never all of them on disk.

    A row is named by the number of its file in the split and its place there.

    Args:
        request: what is asked for.
        id: of the data set; a folder with Parquet files works too.
        source: what the records call their source.
        config: of the data set.
        split: of the data set.
        revision: a commit or tag of the data set.
        shape: how a row holds its questions, one of ``fcotvl.data.row_formats.available()``.
        image: column of the picture; of a list of pictures the only one.
        question: column of the question, or of whatever the shape reads.
        answer: column of the answer or answers.
        kind: of the questions.
        half: column whose text is added to the source up to its first underscore: ``human_test``
            makes ``chartqa`` into ``chartqa/human``.

    Raises:
        DataError: the hub, the data set or a column cannot be had.
        ParamsError: there is no such shape.
    """
    if shape not in shapes.available():
        raise ParamsError(f"huggingface: no shape {shape!r}; there are {shapes.available()}")
    rows = _stream(id, config, split, revision, image)
    last = rows.num_shards if request.last is None else min(request.last, rows.num_shards)

    def turns(row: Any, name: str) -> tuple[Turn, ...]:
        return shapes.turns(shape, row, name, question=question, answer=answer, kind=kind)

    def origin(row: Any) -> str:
        return f"{source}/{text(row, half).partition('_')[0]}" if half else source

    return chain.from_iterable(
        _records(
            rows.shard(rows.num_shards, number), f"{id} {split}", number, source, image,
            turns=turns, origin=origin,
        )
        for number in range(request.first, last)
    )  # fmt: skip


def _stream(name: str, config: str, split: str, revision: str, image: str) -> Any:
    from datasets import Image, List, load_dataset  # noqa: PLC0415 - slow, and only hubs need it

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
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"data set {name!r} {config} {split} cannot be read ({reason}); check its id and the "
            "connection, or point data sources at files on disk (scale local)"
        ) from error
    if features and image not in features:
        raise DataError(
            f"data set {name!r} has no column {image!r}; there are {', '.join(features)}"
        )
    return found


def _records(
    rows: Any,
    where: str,
    part: int,
    name: str,
    image: str,
    *,
    turns: Callable[[Any, str], tuple[Turn, ...]],
    origin: Callable[[Any], str],
) -> Iterator[FileDraft | Quarantined]:
    stream = iter(rows)
    number = 0
    while True:
        try:
            row = next(stream, None)
        except UNREACHABLE as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{where}: reading stopped at {part}:{number} ({reason})") from error
        if row is None:
            return
        row_id = f"{name}-{where.rpartition(' ')[2]}-{part}-{number}"
        file = f"{where}, row {part}:{number}"
        try:
            asked = turns(row, row_id)
            yield FileDraft(row_id, "huggingface", origin(row), _picture(row, image), file, asked)
        except DataError as error:
            yield Quarantined(file, "huggingface", str(error))
        number += 1


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
