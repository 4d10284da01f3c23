"""The record that every stage reads and writes: an image, its questions, where they come from."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice, zip_longest
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from fcotvl.core.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

Item = TypeVar("Item")
Naming = Callable[[Item], tuple[str, str]]
"""Source and id of an item."""

KINDS: tuple[str, ...] = ("transcribe", "extractive", "reason")
"""What a question asks for: the whole text, a value that is written there, or one to work out."""


@dataclass(frozen=True)
class Turn:
    """One question about an image."""

    id: str
    """Unique within its split."""
    question: str
    """As its data set words it, without prompt tail."""
    answers: tuple[str, ...]
    """Accepted answers; the first is the one to train on. Empty for a hidden test set."""
    kind: str
    """One of ``KINDS``."""
    rationale: str | None = None
    """A chain of thought that ends in the answer, where the source has one."""


@dataclass(frozen=True)
class Record:
    """One image with its questions."""

    id: str
    source: str
    """The reader it came from, with its family: ``rendered/document``, ``chartqa/human``."""
    licence: str
    split: str
    image: bytes
    """An encoded PNG or JPEG."""
    width: int
    height: int
    sha256: str
    """Of the decoded RGB pixels, so that re-encoding does not hide a duplicate."""
    turns: tuple[Turn, ...]

    def decode(self) -> Image.Image:
        """Return the picture in RGB."""
        from PIL import Image  # noqa: PLC0415 - keeps the Snakefile's imports light

        with Image.open(io.BytesIO(self.image)) as picture:
            return picture.convert("RGB")


_TURN = pa.struct(
    [
        ("id", pa.string()),
        ("question", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("kind", pa.string()),
        ("rationale", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("split", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
        ("turns", pa.list_(_TURN)),
    ]
)
"""Parquet columns. ``image`` has the layout of ``datasets.Image``, so the hub's viewers show it."""


def pixel_digest(picture: Image.Image) -> str:
    """SHA-256 of the picture's size and RGB pixels."""
    digest = hashlib.sha256(f"{picture.width}x{picture.height}".encode())
    digest.update(picture.convert("RGB").tobytes())
    return digest.hexdigest()


def _row(record: Record) -> dict[str, Any]:
    return asdict(record) | {"image": {"bytes": record.image, "path": None}}


def from_row(row: dict[str, Any]) -> Record:
    """The record of one Parquet row, as ``to_pylist`` gives it."""
    turns = tuple(Turn(**{**turn, "answers": tuple(turn["answers"])}) for turn in row["turns"])
    return Record(**{**row, "image": row["image"]["bytes"], "turns": turns})


def write_shards(
    folder: Path,
    records: Iterable[Record],
    *,
    shard_size: int,
    done: int = 0,
    after: Callable[[], None] = lambda: None,
) -> int:
    """Write ``records`` to ``folder/00000.parquet``, ... and return how many there were.

    The first ``done`` shards are there and stay; ``after`` is called behind each other one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count, shard = 0, 0
    rows: list[dict[str, Any]] = []

    def flush() -> None:
        nonlocal shard, rows
        if shard >= done:
            table = pa.Table.from_pylist(rows, schema=SCHEMA)
            pq.write_table(table, folder / f"{shard:05d}.parquet", row_group_size=256)
            after()
        shard, rows = shard + 1, []

    for record in records:
        rows.append(_row(record))
        count += 1
        if len(rows) == shard_size:
            flush()
    if rows or not shard:
        flush()
    return count


def shards(folder: Path) -> list[Path]:
    """The Parquet files of ``folder`` in order.

    Raises:
        DataError: there are none.
    """
    if found := sorted(folder.glob("*.parquet")):
        return found
    raise DataError(f"{folder} holds no Parquet shards; run the stage that writes it (curate)")


def read_records(folder: Path) -> Iterator[Record]:
    """Yield the records of all shards in order, holding one row group in memory.

    Raises:
        DataError: a shard is missing, truncated or of another schema.
    """
    for path in shards(folder):
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=256):
                    yield from map(from_row, batch.to_pylist())
        except (pa.ArrowException, OSError, TypeError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"{path} is not a readable shard ({reason}); delete it and run curate again"
            ) from error


def balanced(items: Iterable[Item], count: int, seed: int, named: Naming[Item]) -> list[Item]:
    """Up to ``count`` items, as many of each source as there are, in an order of chance.

    Args:
        items: to choose from.
        count: how many to take.
        seed: of the order, which depends on nothing but seed and ids.
        named: source and id of an item.
    """
    by_source: dict[str, list[tuple[bytes, Item]]] = {}
    for item in items:
        source, name = named(item)
        key = hashlib.sha256(f"{seed}-{name}".encode()).digest()
        by_source.setdefault(source, []).append((key, item))
    columns = [sorted(by_source[source], key=itemgetter(0)) for source in sorted(by_source)]
    rounds = (found for row in zip_longest(*columns) for found in row if found is not None)
    return [item for _, item in islice(rounds, count)]
