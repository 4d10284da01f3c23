"""Random access to a folder of shards, in an order that is shuffled yet kind to the disk."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from fcotvl.core.errors import DataError
from fcotvl.core.records import Record, Turn
from fcotvl.core.shards import from_row, shards

Place = tuple[int, int]
"""Row group and row."""
Item = TypeVar("Item")
WINDOW = 16
"""Row groups that are shuffled among each other, and kept in memory."""


@dataclass(frozen=True)
class Outline:
    """A record without its picture."""

    place: Place
    id: str
    source: str
    turns: tuple[Turn, ...]


class Corpus:
    """The records of a split by place, with the last ``WINDOW`` row groups in memory.

    Raises:
        DataError: the folder holds no record, or a shard is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.groups: list[tuple[Path, int]] = []
        self._sizes: list[int] = []
        self._cache: OrderedDict[int, list[Record]] = OrderedDict()
        for path in shards(folder):
            try:
                metadata = pq.read_metadata(path)
            except (pa.ArrowException, OSError) as error:
                raise _damaged(path, error) from error
            for group in range(metadata.num_row_groups):
                self.groups.append((path, group))
                self._sizes.append(metadata.row_group(group).num_rows)
        if not sum(self._sizes):
            raise DataError(f"{folder} holds no record; raise the scale's corpus budget")

    def places(self) -> list[list[Place]]:
        """The place of every record, one list per row group."""
        return [[(group, row) for row in range(size)] for group, size in enumerate(self._sizes)]

    def __getitem__(self, place: Place) -> Record:
        """The record at a place."""
        group, row = place
        if group not in self._cache:
            self._cache[group] = [from_row(row) for row in self._read(group, None)]
            if len(self._cache) > WINDOW:
                self._cache.popitem(last=False)
        self._cache.move_to_end(group)
        return self._cache[group][row]

    def outline(self) -> Iterator[Outline]:
        """What every record asks, without reading its picture."""
        for group in range(len(self.groups)):
            for row, found in enumerate(self._read(group, ["id", "source", "turns"])):
                turns = tuple(Turn(**{**t, "answers": tuple(t["answers"])}) for t in found["turns"])
                yield Outline((group, row), found["id"], found["source"], turns)

    def _read(self, group: int, columns: list[str] | None) -> list[dict[str, Any]]:
        path, number = self.groups[group]
        try:
            with pq.ParquetFile(path) as file:
                rows: list[dict[str, Any]] = file.read_row_group(number, columns).to_pylist()
        except (pa.ArrowException, OSError, KeyError) as error:
            raise _damaged(path, error) from error
        return rows


def _damaged(path: Path, error: Exception) -> DataError:
    reason = str(error).splitlines()[0]
    return DataError(f"{path} is not a readable shard ({reason}); delete it and run curate again")


class Shuffled(Generic[Item]):
    """Items in an endless order: every epoch a new permutation, each item once an epoch.

    ``groups`` are permuted, and the items of each ``window`` of groups are permuted together, so
    that reading in this order needs ``window`` groups in memory at a time. Few groups: a full
    shuffle.
    """

    def __init__(self, groups: Sequence[Sequence[Item]], seed: str, window: int = WINDOW) -> None:
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
        """The item drawn at ``index`` = 0, 1, ..., over all epochs."""
        epoch, place = divmod(index, self._count)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._permuted(epoch))
        return self._epoch[1][place]

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
