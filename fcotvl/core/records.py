"""The record that every stage reads and writes: an image, its questions, where they come from."""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice, zip_longest
from operator import itemgetter
from typing import TYPE_CHECKING, TypeVar

from fcotvl.core.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

Item = TypeVar("Item")
Naming = Callable[[Item], tuple[str, str]]
"""Source and id of an item."""

KINDS: tuple[str, ...] = ("transcribe", "extractive", "reason")
"""What a question asks for: the whole text, a value that is written there, or one to work out."""


_COPY = re.compile(r"#\d+$")


def copy_id(name: str, epoch: int) -> str:
    """The id of a record or question that is used again, for the ``epoch``-th time."""
    return f"{name}#{epoch}"


def first_id(name: str) -> str:
    """The id that a record or question had when it was first used."""
    return _COPY.sub("", name)


@dataclass(frozen=True)
class Turn:
    """One question about an image."""

    id: str
    """Unique within its split."""
    question: str
    """As its data set words it, without prompt tail."""
    answers: tuple[str, ...]
    """Accepted answers; the first is the one to train on. Empty for a hidden test set."""
    kind: str
    """One of ``KINDS``."""
    rationale: str | None = None
    """A chain of thought that ends in the answer, where the source has one."""


@dataclass(frozen=True)
class Record:
    """One image with its questions."""

    id: str
    source: str
    """The reader it came from, with its family: ``rendered/document``, ``chartqa/human``."""
    licence: str
    split: str
    image: bytes
    """An encoded PNG or JPEG."""
    width: int
    height: int
    sha256: str
    """Of the decoded RGB pixels, so that re-encoding does not hide a duplicate."""
    turns: tuple[Turn, ...]

    def decode(self) -> Image.Image:
        """Return the picture in RGB.

        Raises:
            DataError: it is damaged, which it was not when it was curated.
        """
        from PIL import Image  # noqa: PLC0415 - keeps the Snakefile's imports light

        try:
            with Image.open(io.BytesIO(self.image), formats=("PNG", "JPEG")) as picture:
                return picture.convert("RGB")
        except (OSError, SyntaxError, ValueError, LookupError, struct.error, zlib.error) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"the picture of {self.id} is damaged ({reason}); delete its shards, run curate") from error


def pixel_digest(picture: Image.Image) -> str:
    """SHA-256 of the picture's size and RGB pixels."""
    digest = hashlib.sha256(f"{picture.width}x{picture.height}".encode())
    digest.update(picture.convert("RGB").tobytes())
    return digest.hexdigest()


def balanced(items: Iterable[Item], count: int, seed: int, named: Naming[Item]) -> list[Item]:
    """Up to ``count`` items, as many of each source as there are, in an order of chance.

    Args:
        items: to choose from.
        count: how many to take.
        seed: of the order, which depends on nothing but seed and ids.
        named: source and id of an item.
    """
    by_source: dict[str, list[tuple[bytes, Item]]] = {}
    for item in items:
        source, name = named(item)
        key = hashlib.sha256(f"{seed}-{name}".encode()).digest()
        by_source.setdefault(source, []).append((key, item))
    columns = [sorted(by_source[source], key=itemgetter(0)) for source in sorted(by_source)]
    rounds = (found for row in zip_longest(*columns) for found in row if found is not None)
    return [item for _, item in islice(rounds, count)]
