"""What readers yield: drafts of records, cheap to list, whose pictures are opened later."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL.Image import Image

from fcotvl.core.errors import DataError
from fcotvl.core.records import Record, Turn
from fcotvl.data.images import intake

CARVE: Mapping[str, int] = {"align": 9, "instruct": 9, "val": 2}
"""Shares of a source that comes without these splits."""


@dataclass(frozen=True)
class Request:
    """What a reader is asked for."""

    raw: Path
    """Folder with official data sets."""
    split: str
    """``align``, ``instruct``, ``val`` or ``test``."""
    seed: int
    first: int = 0
    """The first cut that is wanted: a piece that can be read without opening what is before it."""
    last: int | None = None
    """The first cut that is no more wanted; ``None``: all that follow are."""


@dataclass(frozen=True)
class Quarantined:
    """One thing that could not be read, and why; the rest goes on."""

    file: str
    """As the data set names it, below ``data.raw``."""
    reader: str
    reason: str


@dataclass(frozen=True)
class Opened:
    """A record whose picture was opened."""

    record: Record
    hash: int | None
    """Its perceptual hash; ``None`` where only equal pixels count."""
    file: str


@runtime_checkable
class Draft(Protocol):
    """A record before its picture is opened. Picklable, so that workers can open it."""

    @property
    def file(self) -> str:
        """What to name in a quarantine row."""

    @property
    def reader(self) -> str:
        """The reader that made it."""

    def key(self) -> str | None:
        """What decides its split, equal for equal files; ``None`` where the reader decided."""

    def open(self, *, split: str, licence: str, max_pixels: int) -> tuple[Record, Image]:
        """The whole record, and its picture decoded.

        Raises:
            DataError: its picture cannot be read.
        """


@dataclass(frozen=True)
class FileDraft:
    """A record whose picture is a file, or bytes out of a table."""

    id: str
    reader: str
    source: str
    image: Path | bytes
    file: str
    turns: tuple[Turn, ...]

    def key(self) -> str:
        """Equal for files of equal content, whatever their names."""
        try:
            return hashlib.sha256(self._read()).hexdigest()
        except DataError:
            return hashlib.sha256(self.file.encode(errors="replace")).hexdigest()

    def open(self, *, split: str, licence: str, max_pixels: int) -> tuple[Record, Image]:
        """The record, its picture checked and converted."""
        picture = intake(self._read(), max_pixels=max_pixels)
        record = Record(
            id=self.id,
            source=self.source,
            licence=licence,
            split=split,
            image=picture.data,
            width=picture.width,
            height=picture.height,
            sha256=picture.sha256,
            turns=self.turns,
        )
        return record, picture.pixels

    def _read(self) -> bytes:
        if isinstance(self.image, bytes):
            return self.image
        try:
            return self.image.read_bytes()
        except OSError as error:
            raise DataError(f"the image cannot be read ({error.strerror})") from error


def carve(key: str, splits: Iterable[str]) -> str:
    """Which of ``splits`` a file with this key belongs to: stable, whatever else is there."""
    shares = {split: CARVE[split] for split in CARVE if split in set(splits)}
    place = int(key[:12], 16) % sum(shares.values())
    for split, share in shares.items():
        if place < share:
            return split
        place -= share
    raise ValueError(f"splits {tuple(splits)}: there is none to carve")
