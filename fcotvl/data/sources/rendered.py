"""The project's own renderer: any number of documents, charts and infographics.

One of its questions: "What is the sum of Pear and Kiwi?" -> ["$104"]. Training, validation and test pictures show
tables from disjoint sets; align and instruct take alternate training pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from PIL.Image import Image

from fcotvl.core.errors import ParamsError
from fcotvl.core.records import Record, Turn, pixel_digest
from fcotvl.data.images import encode
from fcotvl.data.lazy_records import Request
from fcotvl.toy.render import FAMILIES, render

_PARTS = {"align": ("train", 0), "instruct": ("train", 1), "val": ("val", 0), "test": ("test", 0)}
"""By split: the renderer's split and its first picture there; train is shared by two."""


@dataclass(frozen=True)
class RenderedRecord:
    """A record whose picture is not drawn yet."""

    family: str
    split: str
    index: int
    seed: int
    size: int
    reader: str = "rendered"

    @property
    def file(self) -> str:
        """The picture's name."""
        return f"{self.split}-{self.family}-{self.seed}-{self.index}"

    def split_key(self) -> None:
        """The reader has chosen the split."""

    def load(self, *, split: str, licence: str, max_pixels: int) -> tuple[Record, Image]:
        """Draw it. Test pictures have one question, alternately to look up and to work out."""
        del max_pixels
        questions = 1 if split == "test" else 3
        counts = {"extractive": questions, "reason": questions}
        drawn = render(self.family, self.split, self.index, self.seed, image_size=self.size, **counts)
        turns = drawn.turns if split != "test" else _one(drawn.turns, self.index)
        described = (self.file, f"rendered/{self.family}", licence, split)
        image = drawn.image
        pixels = pixel_digest(image)
        return Record(*described, encode(image), *image.size, pixels, turns), image


def _one(turns: tuple[Turn, ...], index: int) -> tuple[Turn, ...]:
    """The question to look up of even pictures, that to work out of odd ones, if there is one."""
    asked = [turn for turn in turns if turn.kind != "transcribe"]
    return (asked[index % len(asked)],)


def read(request: Request, *, family: str = "", size: int = 224) -> Iterator[RenderedRecord]:
    """Endless pictures of ``family``, or of all families in turn, ``size`` pixels square.

    Raises:
        ParamsError: ``family`` is unknown.
    """
    if family not in ("", *FAMILIES):
        raise ParamsError(f"rendered: no family {family!r}; there are {', '.join(FAMILIES)}")
    split, first = _PARTS[request.split]
    step = 2 if split == "train" else 1
    return (
        RenderedRecord(one, split, index, request.seed, size)
        for index in count(first, step)
        for one in ([family] if family else FAMILIES)
    )
