"""From drafts to records: route each to its split, open its picture, quarantine what fails."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from itertools import islice

from fcotvl.core.errors import DataError
from fcotvl.data.dedup import perceptual_hash
from fcotvl.data.lazy_records import Draft, Opened, Quarantined, carve

CHUNK = 4
"""Drafts that a worker is given at a time."""

Found = Draft | Quarantined
Result = Opened | Quarantined


def routed(found: Iterable[Found], split: str, feeds: Sequence[str]) -> Iterator[Found]:
    """What belongs to ``split``, where the source feeds the splits ``feeds``.

    What could not be read as far as its picture is reported once, with the first of ``feeds``.
    """
    for item in found:
        if isinstance(item, Quarantined):
            home = feeds[0]
        elif len(feeds) == 1 or (key := item.key()) is None:
            home = split
        else:
            home = carve(key, feeds)
        if home == split:
            yield item


@dataclass(frozen=True)
class Opening:
    """How the drafts of one source are opened for one split. Picklable, for workers."""

    split: str
    licence: str
    max_pixels: int
    is_hashed: bool
    """Whether perceptual hashes are needed."""

    def __call__(self, drafts: Sequence[Found]) -> list[Result]:
        """Each draft as a record, or why not."""
        return [self._open(draft) for draft in drafts]

    def _open(self, draft: Found) -> Result:
        if isinstance(draft, Quarantined):
            return draft
        try:
            record, pixels = draft.open(
                split=self.split, licence=self.licence, max_pixels=self.max_pixels
            )
        except DataError as error:
            return Quarantined(draft.file, draft.reader, str(error))
        if self.split != "test":
            turns = tuple(turn for turn in record.turns if turn.answers)
            if not turns:
                reason = "no question has an answer to train on"
                return Quarantined(draft.file, draft.reader, reason)
            record = replace(record, turns=turns)
        value = perceptual_hash(pixels) if self.is_hashed else None
        return Opened(record, value, draft.file)


def opened(
    drafts: Iterable[Found], opening: Opening, *, workers: int = 1, pool: Executor | None = None
) -> Iterator[Result]:
    """Each draft as a record, in order, whatever the number of workers.

    With a ``pool`` of so many ``workers`` drafts are opened ahead of need, few at first.
    """
    if pool is None:
        for draft in drafts:
            yield from opening([draft])
        return
    chunks = _chunks(drafts)
    waiting: deque[Future[list[Result]]] = deque()
    ahead = 1
    while True:
        for chunk in islice(chunks, ahead - len(waiting)):
            waiting.append(pool.submit(opening, chunk))
        if not waiting:
            return
        yield from waiting.popleft().result()
        ahead = min(ahead + 1, 2 * workers)


def _chunks(drafts: Iterable[Found]) -> Iterator[list[Found]]:
    source = iter(drafts)
    while chunk := list(islice(source, CHUNK)):
        yield chunk


def workers() -> int:
    """How many processes may work: ``OMP_NUM_THREADS``, as Snakemake sets it, else every core."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdecimal() and int(limit):
        return int(limit)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
