"""Decoded pictures in one file per chunk of a source, prepared before curation on any machine.

Decoding looks at each picture alone; mixing looks at all of them in order and costs little. Curation decodes whatever
was not prefetched, with the same result.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import count, islice, takewhile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fcotvl.core.io import atomic
from fcotvl.data.decoding import Decoded, Item, to_item, to_row

SCHEMA = pa.schema([("item", pa.string()), ("image", pa.binary())])
GROUP_SIZE = 32
"""Rows of a row group: curation holds one group of each source in memory."""


def chunk_path(folder: Path, split: str, source: int, chunk: int) -> Path:
    """The file of one chunk; ``source`` is the source's position among those of the split."""
    return folder / split / f"{source:03d}" / f"{chunk:05d}.parquet"


def leading_chunks(folder: Path, split: str, source: int) -> list[Path]:
    """The chunk files of a source, up to the first that is missing."""
    paths = (chunk_path(folder, split, source, chunk) for chunk in count())
    return list(takewhile(Path.is_file, paths))


def write_chunk(path: Path, items: Iterable[Item]) -> None:
    """Write ``items`` to ``path``, one row group in memory."""
    rest = iter(items)
    with atomic(path) as scratch, pq.ParquetWriter(scratch, SCHEMA) as file:
        while group := list(islice(rest, GROUP_SIZE)):
            rows = [json.dumps(to_row(item)) for item in group]
            images = [item.record.image if isinstance(item, Decoded) else b"" for item in group]
            file.write_table(pa.table([rows, images], schema=SCHEMA))


def read_chunk(path: Path) -> Iterator[Item]:
    """The items of a chunk, in order."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=GROUP_SIZE):
            for row in batch.to_pylist():
                yield to_item(json.loads(row["item"]), row["image"])


def chunk_length(path: Path) -> int:
    """Number of items in a chunk."""
    return int(pq.read_metadata(path).num_rows)
