"""Data sets of the Hugging Face hub, streamed, with any names of columns.

A row of ``HuggingFaceM4/ChartQA``: {"image": <picture>, "query": "How many food item is shown in the bar graph?",
"label": ["14"], "human_or_machine": 0}, read with ``question: query`` and ``answer: label``. How hub data sets hold
several questions is in ``fcotvl.data.row_formats``.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from fcotvl.core.errors import DataError, ParamsError, is_transport_error
from fcotvl.data import fields, row_formats
from fcotvl.data.lazy_records import FileEntries, FileRecord, Quarantined, Request

OWN_CHUNKS = True
"""A chunk is one of the data set's files: reading a later one downloads none before it."""
UNREACHABLE = (OSError, ValueError, RuntimeError)
"""What ``datasets`` raises where an id, a config or a split is not available; where the network fails, it lets the
errors of HTTP libraries through."""


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
        id: of the data set, or a folder that holds its files; of its configs, those that are read are enough.
        source: of the records.
        config: of the data set.
        split: of the data set.
        revision: a commit or tag of the data set.
        format: how a row holds its questions, one of ``fcotvl.data.row_formats.FORMATS``.
        image: column of the picture, or of a list with one picture.
        question: column of the question, or of whatever the format reads.
        answer: column of the answer or answers.
        kind: of the questions.
        half: column whose text is added to the source up to its first underscore: ``human_test`` makes ``chartqa`` into
            ``chartqa/human``.

    Raises:
        DataError: the hub, the data set or a column is not available.
        ParamsError: ``format`` is unknown.
    """
    if format not in row_formats.FORMATS:
        known = ", ".join(row_formats.FORMATS)
        raise ParamsError(f"huggingface: no format {format!r}; there are {known}")
    rows = _stream(id, config, split, revision, image)
    last = rows.num_shards if request.last is None else min(request.last, rows.num_shards)

    columns = {"question": question, "answer": answer, "kind": kind}

    def record(row: Any, number: str, shown: str) -> FileRecord:
        record_id = f"{source}-{split}-{number.replace(':', '-')}"
        turns = row_formats.turns(format, row, record_id, **columns)
        origin = f"{source}/{fields.text(row, half).partition('_')[0]}" if half else source
        return FileRecord(record_id, "huggingface", origin, _picture(row, image), shown, turns)

    def records() -> FileEntries:
        for number, row in _numbered_rows(rows, range(request.first, last), f"{id} {split}"):
            shown = f"{id} {split}, row {number}"
            try:
                yield record(row, number, shown)
            except DataError as error:
                yield Quarantined(shown, "huggingface", str(error))

    return records()


def _stream(name: str, config: str, split: str, revision: str, image: str) -> Any:
    from datasets import Image, List, load_dataset  # noqa: PLC0415 - slow, and needed only here

    try:
        place = _place(name, config, revision or None)
        found = load_dataset(name=config or None, split=split, streaming=True, **place)
        features = found.features or {}
        raw = Image(decode=False)
        if isinstance(features.get(image), Image):
            found = found.cast_column(image, raw)
        elif isinstance(features.get(image), List):
            found = found.cast_column(image, List(raw))
    except Exception as error:
        if not _is_unreachable(error):
            raise
        raise DataError(
            f"data set {name!r} {config} {split} cannot be read ({_one_line(error)}); check its id "
            "and the connection, or use data sets on disk (mix local)"
        ) from error
    if features and image not in features:
        raise DataError(f"data set {name!r} has no column {image!r}; there are {', '.join(features)}")
    return found


def _place(name: str, config: str, revision: str | None) -> dict[str, Any]:
    """Where ``load_dataset`` finds a data set: on the hub, in a folder, or, offline, in the hub's cache.

    It would look neither into the cache for what it streams, nor past a config of the card whose files are not there.
    """
    from huggingface_hub import DatasetCard, constants, hf_hub_download  # noqa: PLC0415 - slow

    folder, file = Path(name), constants.REPOCARD_NAME
    if not folder.is_dir():
        if not constants.HF_HUB_OFFLINE:
            return {"path": name, "revision": revision}
        cached = hf_hub_download(name, file, repo_type="dataset", revision=revision, local_files_only=True)
        folder = Path(cached).parent
    card = folder / file
    configs = DatasetCard.load(card).data.to_dict().get("configs") if card.is_file() else None
    files = (one.get("data_files") for one in configs or [] if one.get("config_name") == config)
    return {"path": str(folder), "data_files": next(files, None)}


def _numbered_rows(rows: Any, files: range, name: str) -> Iterator[tuple[str, Any]]:
    """The rows of ``files`` with their numbers: 3:7 is row 7 of file 3."""
    for file in files:
        stream = iter(rows.shard(rows.num_shards, file))
        for place in count():
            number = f"{file}:{place}"
            try:
                row = next(stream, None)
            except Exception as error:
                if not _is_unreachable(error):
                    raise
                reason = _one_line(error)
                raise DataError(
                    f"{name}: reading stopped at {number} ({reason}); check the connection and run it again"
                ) from error
            if row is None:
                break
            yield number, row


def _is_unreachable(error: Exception) -> bool:
    return isinstance(error, UNREACHABLE) or is_transport_error(error)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


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
