"""What was read for each finished shard, so that a run that was killed goes on behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from fcotvl.core.io import write_text
from fcotvl.core.shards import from_row
from fcotvl.data.lazy_records import Opened, Quarantined

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
        self._read: list[str] = []
        self._streams = 0

    def items(self, rest: Callable[[int], Iterator[Item]]) -> Iterator[Item]:
        """What the next stream gave before, and then what it has behind so many items: ``rest``."""
        self._streams += 1
        return self._items(self._streams, rest)

    def _items(self, place: int, rest: Callable[[int], Iterator[Item]]) -> Iterator[Item]:
        known = 0
        for shard in range(self.done):
            for line in self._path(shard).read_text(encoding="utf-8").splitlines():
                if (row := json.loads(line)).pop("stream") == place:
                    known += 1
                    yield _from_row(row)
        for item in rest(known):
            self._read.append(json.dumps({"stream": place, **_row(item)}))
            yield item

    def close(self) -> None:
        """A shard is finished with what was read since the last one."""
        write_text(self._path(self._next), "\n".join(self._read))
        self._next += 1
        self._read = []

    def _path(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.jsonl"


def _row(item: Item) -> dict[str, Any]:
    row = asdict(item)
    if isinstance(item, Opened):
        del row["record"]["image"]
    return row


def _from_row(row: dict[str, Any], image: bytes = b"") -> Item:
    if "record" not in row:
        return Quarantined(**row)
    return Opened(**{**row, "record": from_row({**row["record"], "image": {"bytes": image}})})


def to_line(item: Item) -> tuple[str, bytes]:
    """``item`` as JSON, and its picture."""
    return json.dumps(_row(item)), item.record.image if isinstance(item, Opened) else b""


def from_line(line: str, image: bytes) -> Item:
    """The item of ``to_line``."""
    return _from_row(json.loads(line), image)
