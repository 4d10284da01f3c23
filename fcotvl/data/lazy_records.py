"""What readers yield: records that are cheap to list and whose pictures are loaded later."""

import errno
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL.Image import Image

from fcotvl.core.errors import DataError
from fcotvl.core.records import Record, Turn
from fcotvl.data.images import normalise_image

SPLIT_SHARES: Mapping[str, int] = {"align": 9, "instruct": 9, "val": 2}
"""How the images of a source are shared among the splits that it contributes to."""


@dataclass(frozen=True)
class Request:
    """What a reader is to read."""

    raw: Path
    """Folder with official data sets."""
    split: str
    """``align``, ``instruct``, ``val`` or ``test``."""
    seed: int
    first: int = 0
    """The first chunk to read: a part of the source that is read without what comes before it."""
    last: int | None = None
    """The chunk to stop before; ``None`` reads to the end."""


@dataclass(frozen=True)
class Quarantined:
    """One thing that could not be read, and why; the others are not affected."""

    file: str
    """Its name in the data set, below ``data.raw``."""
    reader: str
    reason: str


@runtime_checkable
class LazyRecord(Protocol):
    """A record whose picture is not loaded yet. Picklable, so that worker processes can load it."""

    @property
    def file(self) -> str:
        """What a quarantine row names."""

    @property
    def reader(self) -> str:
        """The reader that yielded it."""

    def split_key(self) -> str | None:
        """Hex digits that decide its split; ``None`` where the reader has chosen the split."""

    def load(self, *, split: str, licence: str, max_pixels: int) -> tuple[Record, Image]:
        """The whole record, and its decoded picture.

        Raises:
            DataError: its picture cannot be read.
        """


def read_bytes(path: Path) -> bytes:
    """The content of ``path``.

    Raises:
        OSError: it is missing, or no file: a named pipe would keep its reader waiting for ever.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file")
    return path.read_bytes()


@dataclass(frozen=True)
class FileRecord:
    """A lazy record whose picture is a file, or encoded bytes out of a table."""

    id: str
    reader: str
    source: str
    image: Path | bytes
    file: str
    turns: tuple[Turn, ...]

    def split_key(self) -> str:
        """Equal for files of equal content, whatever their names."""
        try:
            return hashlib.sha256(self._read()).hexdigest()
        except DataError:
            return hashlib.sha256(self.file.encode(errors="replace")).hexdigest()

    def load(self, *, split: str, licence: str, max_pixels: int) -> tuple[Record, Image]:
        """The record with its picture checked and converted."""
        picture = normalise_image(self._read(), max_pixels=max_pixels)
        size = picture.width, picture.height
        described = (self.id, self.source, licence, split)
        return Record(*described, picture.data, *size, picture.sha256, self.turns), picture.pixels

    def _read(self) -> bytes:
        if isinstance(self.image, bytes):
            return self.image
        try:
            return read_bytes(self.image)
        except OSError as error:
            raise DataError(f"the image cannot be read ({error.strerror})") from error


Entry = LazyRecord | Quarantined
"""What a reader yields."""
FileEntries = Iterator[FileRecord | Quarantined]


def assign_split(key: str, splits: Iterable[str]) -> str:
    """The one of ``splits`` that a file with this key belongs to; depends on nothing else."""
    parts = [split for split in SPLIT_SHARES if split in set(splits)]
    tickets = [split for split in parts for _ in range(SPLIT_SHARES[split])]
    return tickets[int(key[:12], 16) % len(tickets)]


def of_split(entries: Iterable[Entry], split: str, splits: tuple[str, ...]) -> Iterator[Entry]:
    """The entries that belong to ``split``, where their source contributes to all of ``splits``.

    A quarantined entry is reported once, with the first of ``splits``.
    """
    for entry in entries:
        if isinstance(entry, Quarantined):
            home = splits[0]
        elif len(splits) == 1 or (key := entry.split_key()) is None:
            home = split
        else:
            home = assign_split(key, splits)
        if home == split:
            yield entry
