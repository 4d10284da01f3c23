"""Records as Parquet shards: how a corpus and a benchmark lie on disk."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fcotvl.core.errors import DataError
from fcotvl.core.records import Record, Turn

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


def _row(record: Record) -> dict[str, Any]:
    return asdict(record) | {"image": {"bytes": record.image, "path": None}}


def from_row(row: dict[str, Any]) -> Record:
    """The record of one Parquet row, as ``to_pylist`` gives it."""
    return Record(**{**row, "image": row["image"]["bytes"], "turns": turns_of(row)})


def turns_of(row: dict[str, Any]) -> tuple[Turn, ...]:
    """The turns of one Parquet row."""
    return tuple(Turn(**{**turn, "answers": tuple(turn["answers"])}) for turn in row["turns"])


GROUP = 16
"""Records in a row group, the least that is read: training draws pictures in random order."""


def write_shards(
    folder: Path,
    records: Iterable[Record],
    *,
    shard_size: int,
    by_source: bool = False,
    done: int = 0,
    after: Callable[[], None] = lambda: None,
) -> int:
    """Write ``records`` to ``folder/00000.parquet``, ... and return how many there were.

    Args:
        folder: where the shards go.
        records: what to write.
        shard_size: records in a shard.
        by_source: whether each shard is sorted by source, so that its row groups hold few of them each.
        done: number of leading shards that are there and stay.
        after: called behind each other shard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count, shard = 0, 0
    rows: list[dict[str, Any]] = []

    def flush() -> None:
        nonlocal shard, rows
        if shard >= done:
            if by_source:
                rows.sort(key=itemgetter("source"))
            table = pa.Table.from_pylist(rows, schema=SCHEMA)
            pq.write_table(table, folder / f"{shard:05d}.parquet", row_group_size=GROUP)
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


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Report errors while reading shard ``path`` as one line.

    Raises:
        DataError: the shard is missing, truncated or of another schema.
    """
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not a readable shard ({reason}); delete it and run curate again") from error


def read_records(folder: Path) -> Iterator[Record]:
    """Yield the records of all shards in order, holding one row group in memory.

    Raises:
        DataError: a shard is missing, truncated or of another schema.
    """
    for path in shards(folder):
        with readable(path), pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                yield from map(from_row, batch.to_pylist())
