"""Mixing sources by weight into a split of the corpus, with an account of all that was read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from fcotvl.data.drafts import Opened, Quarantined
from fcotvl.data.duplicates import Benchmarks, Hit, Seen
from fcotvl.records import Record


@dataclass
class Stream:
    """What one source gives to one split."""

    name: str
    weight: float
    items: Iterator[Opened | Quarantined]
    kept: int = 0
    duplicates: list[Hit] = field(default_factory=list)
    contaminated: list[Hit] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    read: int = 0
    is_dry: bool = False
    absent: str | None = None
    """Why an optional source is left out."""

    def pull(self, seen: Seen, benchmarks: Benchmarks) -> Record | None:
        """The next record that is good and new; ``None`` once the source is dry."""
        for item in self.items:
            self.read += 1
            if isinstance(item, Quarantined):
                self.quarantined.append(item)
            elif hit := benchmarks.find(item.record, item.hash, item.file):
                self.contaminated.append(hit)
            else:
                admitted = seen.admit(item.record, item.hash, item.file)
                if isinstance(admitted, Record):
                    self.kept += 1
                    return admitted
                self.duplicates.append(admitted)
        self.is_dry = True
        return None

    @property
    def is_accounted(self) -> bool:
        """Everything that was read was kept or dropped for a stated reason."""
        dropped = len(self.duplicates) + len(self.contaminated) + len(self.quarantined)
        return self.read == self.kept + dropped


def mix(
    streams: Sequence[Stream], count: int, seen: Seen, benchmarks: Benchmarks
) -> Iterator[Record]:
    """Yield up to ``count`` records, at every point as close to the weights as whole records allow.

    A source that runs dry leaves its share to the others; nothing is repeated. With all of them dry
    there are fewer than ``count``.
    """
    taken = 0
    while taken < count:
        alive = [stream for stream in streams if not stream.is_dry]
        if not alive:
            return
        behind = min(alive, key=lambda stream: (stream.kept + 1) / stream.weight)
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
