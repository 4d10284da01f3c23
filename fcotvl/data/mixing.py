"""Mixing sources by weight into a split of the corpus, with an account of all that was read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress

from fcotvl.core.errors import DataError
from fcotvl.core.records import Record
from fcotvl.data.dedup import Benchmarks, Hit, Seen
from fcotvl.data.lazy_records import Opened, Quarantined

Items = Iterator[Opened | Quarantined]


@dataclass
class Stream:
    """What one source gives to one split."""

    name: str
    weight: float
    items: Items
    again: Callable[[], Items] | None = None
    """Begins anew with the same items, to repeat what was kept; ``None``: it is never repeated."""
    epochs: int = 1
    """Times that a record is given at most."""
    kept: int = 0
    repeats: int = 0
    """Records that were given once more, after the source ran dry."""
    duplicates: list[Hit] = field(default_factory=list)
    contaminated: list[Hit] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    read: int = 0
    is_dry: bool = False
    is_spent: bool = False
    """Dry, and repeated as often as it may be."""
    absent: str | None = None
    """Why an optional source is left out."""
    _is_kept: bytearray = field(default_factory=bytearray)
    """Of each record that was read, in order."""
    _trimmed: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Ids of the questions that are left of a record that lost some, by its place."""
    _repeated: Iterator[Record] | None = None

    @property
    def given(self) -> int:
        """Records that went into the split."""
        return self.kept + self.repeats

    def pull(self, seen: Seen, benchmarks: Benchmarks) -> Record | None:
        """The next record that is good and new, or a repeated one; ``None`` once it is spent."""
        record = self._fresh(seen, benchmarks)
        if record is not None:
            self.kept += 1
            return record
        if self._repeated is None:
            self._repeated = self._repeat(seen)
        record = next(self._repeated, None)
        if record is None:
            self.is_spent = True
        else:
            self.repeats += 1
        return record

    def _fresh(self, seen: Seen, benchmarks: Benchmarks) -> Record | None:
        for item in self.items:
            self.read += 1
            self._is_kept.append(False)
            if isinstance(item, Quarantined):
                self.quarantined.append(item)
            elif hit := benchmarks.find(item.record, item.hash, item.file):
                self.contaminated.append(hit)
            else:
                admitted = seen.admit(item.record, item.hash, item.file)
                if isinstance(admitted, Record):
                    self._is_kept[-1] = True
                    if len(admitted.turns) < len(item.record.turns):
                        self._trimmed[self.read - 1] = tuple(turn.id for turn in admitted.turns)
                    return admitted
                self.duplicates.append(admitted)
        self.is_dry = True
        return None

    def _repeat(self, seen: Seen) -> Iterator[Record]:
        """What was kept, again and in the same order, read anew for each further epoch."""
        if self.again is None or not self.kept:
            return
        for epoch in range(2, self.epochs + 1):
            for place, item in compress(enumerate(self.again()), self._is_kept):
                if isinstance(item, Quarantined) or not seen.holds(item.record):
                    raise DataError(
                        f"{self.name} changed while it was read ({item.file}); run curate again"
                    )
                left = self._trimmed.get(place)
                turns = [turn for turn in item.record.turns if left is None or turn.id in left]
                yield replace(
                    item.record,
                    id=f"{item.record.id}#{epoch}",
                    turns=tuple(replace(turn, id=f"{turn.id}#{epoch}") for turn in turns),
                )

    @property
    def is_accounted(self) -> bool:
        """Everything that was read was kept or dropped for a stated reason."""
        dropped = len(self.duplicates) + len(self.contaminated) + len(self.quarantined)
        return self.read == self.kept + dropped


def mix(
    streams: Sequence[Stream], count: int, seen: Seen, benchmarks: Benchmarks
) -> Iterator[Record]:
    """Yield up to ``count`` records, at every point as close to the weights as whole records allow.

    A source that runs dry is repeated from its beginning, under ids that end in ``#2``, ``#3``, up
    to its ``epochs``; then it leaves its share to the others. With all of them spent there are
    fewer than ``count``.
    """
    taken = 0
    while taken < count:
        alive = [stream for stream in streams if not stream.is_spent]
        if not alive:
            return
        behind = min(alive, key=lambda stream: (stream.given + 1) / stream.weight)
        record = behind.pull(seen, benchmarks)
        if record is not None:
            taken += 1
            yield record


def examine(stream: Stream, count: int, benchmarks: Benchmarks) -> Iterator[Record]:
    """Yield records with ``count`` questions in all, or fewer, and protect each of them.

    Nothing is left out as a duplicate: a benchmark is what its authors made it.
    """
    left = count
    while left:
        item = next(stream.items, None)
        if item is None:
            stream.is_dry = True
            return
        stream.read += 1
        if isinstance(item, Quarantined):
            stream.quarantined.append(item)
            continue
        record = replace(item.record, turns=item.record.turns[:left])
        left -= len(record.turns)
        stream.kept += 1
        benchmarks.add(record, item.hash)
        yield record
