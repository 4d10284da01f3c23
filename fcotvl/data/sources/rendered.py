"""The project's own renderer: as many documents, charts or infographics as are asked for.

One of its questions: "What is the sum of Pear and Kiwi?" -> ["$104"]. Tables of training,
validation and test pictures are drawn from disjoint sets; align and instruct take every other
training picture.
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

_PLACES = {"align": ("train", 0), "instruct": ("train", 1), "val": ("val", 0), "test": ("test", 0)}
"""Our split: the renderer's split, and whether it takes the even or the odd pictures of it."""


@dataclass(frozen=True)
class RenderedDraft:
    """A picture that is not drawn yet."""

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

    def key(self) -> None:
        """The reader decides the split."""

    def open(self, *, split: str, licence: str, max_pixels: int) -> tuple[Record, Image]:
        """Draw it. Test pictures carry one question, to look up and to work out in turns."""
        del max_pixels
        many = 1 if split == "test" else 3
        drawn = render(
            self.family,
            self.split,
            self.index,
            self.seed,
            image_size=self.size,
            extractive=many,
            reason=many,
        )
        turns = drawn.turns if split != "test" else _one(drawn.turns, self.index)
        record = Record(
            id=self.file,
            source=f"rendered/{self.family}",
            licence=licence,
            split=split,
            image=encode(drawn.image),
            width=drawn.image.width,
            height=drawn.image.height,
            sha256=pixel_digest(drawn.image),
            turns=turns,
        )
        return record, drawn.image


def _one(turns: tuple[Turn, ...], index: int) -> tuple[Turn, ...]:
    """The question to look up of even pictures, the one to work out of odd ones that have one."""
    asked = [turn for turn in turns if turn.kind != "transcribe"]
    return (asked[index % len(asked)],)


def read(request: Request, *, family: str = "", size: int = 224) -> Iterator[RenderedDraft]:
    """Pictures of ``family``, or of all families in turn, without end; ``size`` pixels square.

    Raises:
        ParamsError: ``family`` is unknown.
    """
    if family not in ("", *FAMILIES):
        raise ParamsError(f"rendered: no family {family!r}; there are {', '.join(FAMILIES)}")
    split, first = _PLACES[request.split]
    step = 2 if split == "train" else 1
    return (
        RenderedDraft(one, split, index, request.seed, size)
        for index in count(first, step)
        for one in ([family] if family else FAMILIES)
    )
