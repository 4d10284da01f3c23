"""A folder of shards as training data: random access, and a shuffled order.

The order is shuffled within windows of row groups, so that few of them are read at a time.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Generic, TypeVar

import pyarrow.parquet as pq

from fcotvl.core.errors import DataError
from fcotvl.core.records import Record, Turn
from fcotvl.core.shards import from_row, readable, shards, turns_of

RowRef = tuple[int, int]
"""Row group and row of a record; a plain tuple, because its text is part of random seeds."""
Item = TypeVar("Item")
CACHE = 256
"""Row groups that a process keeps in memory: some 4,000 pictures, encoded."""


@dataclass(frozen=True)
class RecordHeader:
    """A record without its picture."""

    ref: RowRef
    id: str
    source: str
    turns: tuple[Turn, ...]


class Corpus:
    """The records of a split by reference; the last ``CACHE`` row groups stay in memory.

    Raises:
        DataError: the folder holds no record, or a shard is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._groups: list[tuple[Path, int, int]] = []  # file, its row group, rows
        self._cache: OrderedDict[int, list[Record]] = OrderedDict()
        for path in shards(folder):
            with readable(path):
                metadata = pq.read_metadata(path)
                for group in range(metadata.num_row_groups):
                    self._groups.append((path, group, metadata.row_group(group).num_rows))
        if not any(rows for _, _, rows in self._groups):
            raise DataError(f"{folder} holds no record; raise the scale's corpus budget")

    def refs(self) -> list[list[RowRef]]:
        """The reference of every record, one list per row group."""
        return [[(i, row) for row in range(rows)] for i, (_, _, rows) in enumerate(self._groups)]

    def __getitem__(self, ref: RowRef) -> Record:
        """The record at ``ref``."""
        group, row = ref
        if group not in self._cache:
            self._cache[group] = [from_row(row) for row in self._read(group)]
            if len(self._cache) > CACHE:
                self._cache.popitem(last=False)
        self._cache.move_to_end(group)
        return self._cache[group][row]

    def headers(self) -> Iterator[RecordHeader]:
        """Every record in order, without reading its picture."""
        for group in range(len(self._groups)):
            for i, row in enumerate(self._read(group, ["id", "source", "turns"])):
                yield RecordHeader((group, i), row["id"], row["source"], turns_of(row))

    def _read(self, group: int, columns: list[str] | None = None) -> list[dict[str, Any]]:
        path, number, _ = self._groups[group]
        with readable(path), pq.ParquetFile(path) as file:
            rows: list[dict[str, Any]] = file.read_row_group(number, columns).to_pylist()
        return rows


class ShuffledEpochs(Generic[Item]):
    """Items in an endless order: a new permutation in every epoch.

    ``groups`` are permuted, and the items of each ``window`` of groups are permuted together, so reading in this order
    needs ``window`` groups in memory at a time. Up to that many groups, this is a full shuffle.

    Raises:
        ValueError: there is no item.
    """

    def __init__(self, groups: Sequence[Sequence[Item]], seed: str, window: int = CACHE) -> None:
        self._groups = [group for group in groups if group]
        self._seed, self._window = seed, window
        self._count = sum(map(len, self._groups))
        self._epoch: tuple[int, list[Item]] = (-1, [])
        if not self._count:
            raise ValueError(f"nothing to shuffle under {seed!r}")

    def __len__(self) -> int:
        """Items of one epoch."""
        return self._count

    def __getitem__(self, index: int) -> Item:
        """The item at ``index`` = 0, 1, ..., counted over all epochs."""
        epoch, position = divmod(index, self._count)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._permuted(epoch))
        return self._epoch[1][position]

    def _permuted(self, epoch: int) -> list[Item]:
        rng = Random(f"{self._seed}-{epoch}")  # noqa: S311 - sampling, not secrets
        groups = list(self._groups)
        rng.shuffle(groups)
        order = []
        for start in range(0, len(groups), self._window):
            window = [item for group in groups[start : start + self._window] for item in group]
            rng.shuffle(window)
            order += window
        return order
