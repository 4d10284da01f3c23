"""Mixing sources by weight into a split of the corpus, with counts of all that was read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress

from fcotvl.core.errors import DataError
from fcotvl.core.records import Record, copy_id
from fcotvl.data.decoding import Item
from fcotvl.data.dedup import ContaminationFilter, DedupIndex, Match
from fcotvl.data.lazy_records import Quarantined


@dataclass
class Stream:
    """What one source contributes to one split."""

    name: str
    weight: float
    items: Iterator[Item]
    restart: Callable[[], Iterator[Item]] | None = None
    """Reads the same items again, to repeat what was kept; ``None``: it is never repeated."""
    epochs: int = 1
    """How often a record is used at most."""
    kept: int = 0
    repeats: int = 0
    """Records that were used again, after the source ran dry."""
    duplicates: list[Match] = field(default_factory=list)
    contaminated: list[Match] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    read: int = 0
    is_dry: bool = False
    is_exhausted: bool = False
    """Dry, and repeated as often as it may be."""
    absent: str | None = None
    """Why an optional source is left out."""
    _is_kept: bytearray = field(default_factory=bytearray)
    """For each record that was read, in order."""
    _trimmed: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Ids of the questions that remain of a record that lost some, by its number."""
    _repeated: Iterator[Record] | None = None

    @property
    def contributed(self) -> int:
        """Records that went into the split."""
        return self.kept + self.repeats

    def next_record(self, seen: DedupIndex, benchmarks: ContaminationFilter) -> Record | None:
        """The next new record, or else a repeated one; ``None`` once the stream is exhausted."""
        record = self._next_new(seen, benchmarks)
        if record is not None:
            self.kept += 1
            return record
        if self._repeated is None:
            self._repeated = self._repeat(seen)
        record = next(self._repeated, None)
        if record is None:
            self.is_exhausted = True
        else:
            self.repeats += 1
        return record

    def _next_new(self, seen: DedupIndex, benchmarks: ContaminationFilter) -> Record | None:
        for item in self.items:
            self.read += 1
            self._is_kept.append(False)
            if isinstance(item, Quarantined):
                self.quarantined.append(item)
            elif match := benchmarks.find(item.record, item.hash, item.file):
                self.contaminated.append(match)
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

    def _repeat(self, seen: DedupIndex) -> Iterator[Record]:
        """What was kept, in the same order, read again for each further epoch."""
        if self.restart is None or not self.kept:
            return
        for epoch in range(2, self.epochs + 1):
            for number, item in compress(enumerate(self.restart()), self._is_kept):
                if isinstance(item, Quarantined) or not seen.holds(item.record):
                    raise DataError(f"{self.name} changed while it was read ({item.file}); run curate again")
                left = self._trimmed.get(number)
                turns = [turn for turn in item.record.turns if left is None or turn.id in left]
                yield replace(
                    item.record,
                    id=copy_id(item.record.id, epoch),
                    turns=tuple(replace(turn, id=copy_id(turn.id, epoch)) for turn in turns),
                )

    @property
    def adds_up(self) -> bool:
        """Everything that was read was kept or dropped for a stated reason."""
        dropped = len(self.duplicates) + len(self.contaminated) + len(self.quarantined)
        return self.read == self.kept + dropped


def mix(streams: Sequence[Stream], count: int, seen: DedupIndex, benchmarks: ContaminationFilter) -> Iterator[Record]:
    """Yield up to ``count`` records, always as close to the weights as whole records allow.

    A source that runs dry is repeated from its beginning, under ids that end in ``#2``, ``#3``, up to its ``epochs``;
    then it leaves its share to the others. Once all are exhausted, fewer than ``count`` records have come.
    """
    taken = 0
    while taken < count:
        alive = [stream for stream in streams if not stream.is_exhausted]
        if not alive:
            return
        behind = min(alive, key=lambda stream: (stream.contributed + 1) / stream.weight)
        record = behind.next_record(seen, benchmarks)
        if record is not None:
            taken += 1
            yield record


def take_benchmark(stream: Stream, count: int, benchmarks: ContaminationFilter) -> Iterator[Record]:
    """Yield records with up to ``count`` questions in all, and add each to ``benchmarks``.

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
