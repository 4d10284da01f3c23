"""What was read for each finished shard, so that a killed run continues after its last shard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count, takewhile
from pathlib import Path

from fcotvl.core.io import write_text
from fcotvl.data.decoding import Item, to_item, to_row


class ResumeLog:
    """The items behind the shards of one folder, in order and without their pictures.

    Mixing them again repeats every count and every decision of the killed run; only what comes after the last finished
    shard is decoded.
    """

    def __init__(self, root: Path, name: str) -> None:
        """Shards are in ``root/name``, their log is in ``root/log/name``."""
        self.shards, self._folder = root / name, root / "log" / name
        self.done = sum(1 for _ in takewhile(self._is_finished, count()))
        """Finished shards."""
        self._next_shard = self.done
        self._lines: list[str] = []
        self._streams = 0

    def attach(self, read: Callable[[int], Iterator[Item]]) -> Iterator[Item]:
        """The items of one more stream: those in the log, then those that ``read`` yields.

        Args:
            read: takes how many items the log holds, and yields those after them.
        """
        self._streams += 1
        return self._items(self._streams, read)

    def _items(self, stream: int, read: Callable[[int], Iterator[Item]]) -> Iterator[Item]:
        known = 0
        for shard in range(self.done):
            for line in self._path(shard).read_text(encoding="utf-8").splitlines():
                number, row = json.loads(line)
                if number == stream:
                    known += 1
                    yield to_item(row)
        for item in read(known):
            self._lines.append(json.dumps([stream, to_row(item)]))
            yield item

    def end_shard(self) -> None:
        """Log what was read since the shard before this one."""
        write_text(self._path(self._next_shard), "\n".join(self._lines))
        self._next_shard += 1
        self._lines = []

    def _is_finished(self, shard: int) -> bool:
        return self._path(shard).is_file() and (self.shards / f"{shard:05d}.parquet").is_file()

    def _path(self, shard: int) -> Path:
        return self._folder / f"{shard:05d}.jsonl"
