"""From drafts to records: route each to its split, open its picture, quarantine what fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from fcotvl.data.drafts import Draft, Opened, Quarantined, carve
from fcotvl.data.duplicates import perceptual_hash
from fcotvl.errors import DataError


def routed(
    found: Iterable[Draft | Quarantined], split: str, feeds: Sequence[str]
) -> Iterator[Draft | Quarantined]:
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


def opened(
    drafts: Iterable[Draft | Quarantined],
    *,
    split: str,
    licence: str,
    max_pixels: int,
    is_hashed: bool,
) -> Iterator[Opened | Quarantined]:
    """Each draft as a record, in order."""
    for draft in drafts:
        yield _open(draft, split, licence, max_pixels, is_hashed)


def _open(
    draft: Draft | Quarantined, split: str, licence: str, max_pixels: int, is_hashed: bool
) -> Opened | Quarantined:
    if isinstance(draft, Quarantined):
        return draft
    try:
        record = draft.open(split=split, licence=licence, max_pixels=max_pixels)
    except DataError as error:
        return Quarantined(draft.file, draft.reader, str(error))
    if split != "test":
        turns = tuple(turn for turn in record.turns if turn.answers)
        if not turns:
            return Quarantined(draft.file, draft.reader, "no question has an answer to train on")
        record = replace(record, turns=turns)
    value = perceptual_hash(record.decode()) if is_hashed else None
    return Opened(record, value, draft.file)
