"""From lazy records to records: load the picture, hash it, quarantine what fails; in parallel."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import islice
from multiprocessing import get_context
from typing import Any

from fcotvl.core.errors import DataError
from fcotvl.core.records import Record
from fcotvl.core.shards import from_row
from fcotvl.data.dedup import perceptual_hash
from fcotvl.data.lazy_records import Entry, Quarantined

BATCH = 4
"""Entries that a worker is given at a time."""
MIN_PARALLEL = 500
"""Images from which on worker processes pay for their start."""


@dataclass(frozen=True)
class Decoded:
    """A record whose picture was decoded."""

    record: Record
    hash: int | None
    """Its perceptual hash; ``None`` where only equal pixels count."""
    file: str


Item = Decoded | Quarantined


@dataclass(frozen=True)
class Decoder:
    """How the entries of one source are decoded for one split. Picklable, for workers."""

    split: str
    licence: str
    max_pixels: int
    needs_hash: bool
    """Whether near duplicates are sought, by perceptual hash."""

    def __call__(self, entries: Sequence[Entry]) -> list[Item]:
        """Each entry decoded, or quarantined with a reason."""
        return [_writable(self._decode(entry)) for entry in entries]

    def _decode(self, entry: Entry) -> Item:
        if isinstance(entry, Quarantined):
            return entry
        try:
            record, pixels = entry.load(split=self.split, licence=self.licence, max_pixels=self.max_pixels)
        except DataError as error:
            return Quarantined(entry.file, entry.reader, str(error))
        if self.split != "test":
            turns = tuple(turn for turn in record.turns if any(turn.answers))
            if not turns:
                reason = "no question has an answer to train on"
                return Quarantined(entry.file, entry.reader, reason)
            record = replace(record, turns=turns)
        return Decoded(record, perceptual_hash(pixels) if self.needs_hash else None, entry.file)


def _writable(item: Item) -> Item:
    """``item`` with lone surrogates written out: UTF-8 cannot hold them, and file names in other codes bring them."""
    return to_item(_escaped(to_row(item)), item.record.image if isinstance(item, Decoded) else b"")


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _escaped(one) for key, one in value.items()}
    return [_escaped(one) for one in value] if isinstance(value, list | tuple) else value


def decode(entries: Iterable[Entry], decoder: Decoder, pool: Executor | None = None) -> Iterator[Item]:
    """Decode ``entries`` in order; a ``pool`` decodes ahead of need, a few entries at first."""
    rest = iter(entries)
    if pool is None:
        for entry in rest:
            yield from decoder([entry])
        return
    pending: deque[Future[list[Item]]] = deque()
    ahead = 1
    while True:
        while len(pending) < ahead and (batch := list(islice(rest, BATCH))):
            pending.append(pool.submit(decoder, batch))
        if not pending:
            return
        yield from pending.popleft().result()
        ahead = min(ahead + 1, 2 * worker_count())


def open_pool(images: int) -> AbstractContextManager[Executor | None]:
    """Worker processes, where there are enough ``images`` to decode."""
    if worker_count() == 1 or images < MIN_PARALLEL:
        return nullcontext()
    return ProcessPoolExecutor(worker_count(), get_context("spawn"))


def worker_count() -> int:
    """Processes to use: ``OMP_NUM_THREADS``, which Snakemake sets, else one for each core."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdecimal() and int(limit):
        return int(limit)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def to_row(item: Item) -> dict[str, Any]:
    """``item`` in JSON values, without its picture."""
    row = asdict(item)
    if isinstance(item, Decoded):
        del row["record"]["image"]
    return row


def to_item(row: dict[str, Any], image: bytes = b"") -> Item:
    """The inverse of ``to_row``."""
    if "record" not in row:
        return Quarantined(**row)
    return Decoded(**{**row, "record": from_row({**row["record"], "image": {"bytes": image}})})
