"""Pictures that were opened ahead of curation, a file for each cut, on as many machines as wanted.

Opening is a matter of each picture alone; mixing looks at all of them in order, and costs little.
Whatever was opened ahead is what curation itself would have made of it: the corpus is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, islice, takewhile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fcotvl.core.io import atomic
from fcotvl.data.resume_log import Item, from_line, to_line

SCHEMA = pa.schema([("item", pa.string()), ("image", pa.binary())])
ROWS = 32
"""In a row group: several cuts are read side by side, a group of each in memory."""


def cut_path(folder: Path, split: str, source: int, cut: int) -> Path:
    """Where cut ``cut`` of the split's source ``source`` is kept."""
    return folder / split / f"{source:03d}" / f"{cut:05d}.parquet"


def save_cut(path: Path, items: Iterable[Item]) -> None:
    """Write ``items``, a few at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rest = iter(items)
    with atomic(path) as draft, pq.ParquetWriter(draft, SCHEMA) as file:
        while group := list(islice(rest, ROWS)):
            rows = [dict(zip(SCHEMA.names, to_line(item), strict=True)) for item in group]
            file.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))


def load_cut(path: Path) -> Iterator[Item]:
    """The items of a cut, in order."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS):
            for row in batch.to_pylist():
                yield from_line(row["item"], row["image"])


def count_cut(path: Path) -> int:
    """How many items a cut holds."""
    return int(pq.read_metadata(path).num_rows)


def leading_cuts(folder: Path, split: str, source: int) -> list[Path]:
    """The cuts that are there, up to the first that is not."""
    paths = (cut_path(folder, split, source, cut) for cut in count())
    return list(takewhile(Path.is_file, paths))


def continued(
    cuts: Sequence[Path], known: int, rest: Callable[[int], Iterator[Item]]
) -> Iterator[Item]:
    """Items behind the first ``known``: those of ``cuts``, then of ``rest``, told what is known."""
    for cut in cuts:
        held = count_cut(cut)
        if known < held:
            yield from islice(load_cut(cut), known, None)
        known = max(0, known - held)
    yield from rest(known)
