"""What was read for each finished shard, so that a run that was killed goes on behind it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

from fcotvl.data.drafts import Opened, Quarantined
from fcotvl.files import atomic

Item = Opened | Quarantined


class Journal:
    """The items that went into the shards of one folder, in order and without their pictures.

    Mixing them again brings every count and every decision back, as it made them in the first
    place; only what comes after the last finished shard has to be opened.
    """

    def __init__(self, root: Path, name: str) -> None:
        """Shards are in ``root/name``, their journal is in ``root/journal/name``."""
        self.shards, self.folder = root / name, root / "journal" / name
        whole = ((self._path(n), self.shards / f"{n:05d}.parquet") for n in count())
        self.done = next(n for n, paths in enumerate(whole) if not all(p.is_file() for p in paths))
        """Shards that are finished."""
        self._next = self.done
        self._read: list[tuple[int, Item]] = []
        self._streams = 0

    def items(self, rest: Callable[[int], Iterator[Item]]) -> Iterator[Item]:
        """What the next stream gave before, and then what it has behind so many items: ``rest``."""
        self._streams += 1
        return self._items(self._streams, rest)

    def _items(self, place: int, rest: Callable[[int], Iterator[Item]]) -> Iterator[Item]:
        known = 0
        for shard in range(self.done):
            for owner, item in pickle.loads(self._path(shard).read_bytes()):  # noqa: S301 - our own
                if owner == place:
                    known += 1
                    yield item
        for item in rest(known):
            self._read.append((place, _without_picture(item)))
            yield item

    def close(self) -> None:
        """A shard is finished with what was read since the last one."""
        with atomic(self._path(self._next)) as path:
            path.write_bytes(pickle.dumps(self._read))
        self._next += 1
        self._read = []

    def _path(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.pickle"


def _without_picture(item: Item) -> Item:
    if isinstance(item, Quarantined):
        return item
    return replace(item, record=replace(item.record, image=b""))
