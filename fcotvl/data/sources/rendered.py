"""The project's own renderer: any number of documents, charts and infographics.

One of its questions: "What is the sum of Pear and Kiwi?" -> ["$104"]. Training, validation and test pictures show
tables from disjoint sets; align and instruct take alternate training pictures.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, zip_longest

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
    questions: int = 1
    reader: str = "rendered"

    @property
    def file(self) -> str:
        """The picture's name."""
        return f"{self.split}-{self.family}-{self.seed}-{self.index}"

    def split_key(self) -> None:
        """The reader has chosen the split."""

    def load(self, *, split: str, licence: str, max_pixels: int) -> tuple[Record, Image]:
        """Draw it. Test pictures have up to ``questions``, alternately to look up and to work out."""
        del max_pixels
        each = (self.questions + 1) // 2 if split == "test" else 3
        counts = {"extractive": each, "reason": each}
        drawn = render(self.family, self.split, self.index, self.seed, image_size=self.size, **counts)
        turns = drawn.turns if split != "test" else _alternate(drawn.turns, self.index, self.questions)
        described = (self.file, f"rendered/{self.family}", licence, split)
        image = drawn.image
        pixels = pixel_digest(image)
        return Record(*described, encode(image), *image.size, pixels, turns), image


def _alternate(turns: tuple[Turn, ...], index: int, count: int) -> tuple[Turn, ...]:
    """``count`` questions, to look up and to work out in turn; odd pictures begin with the latter, if there is one."""
    kinds = [[turn for turn in turns if turn.kind == kind] for kind in ("extractive", "reason")]
    if index % 2:
        kinds.reverse()
    return tuple([turn for pair in zip_longest(*kinds) for turn in pair if turn is not None][:count])


def read(request: Request, *, family: str = "", size: int = 224, questions: int = 1) -> Iterator[RenderedRecord]:
    """Endless pictures of ``family``, or of all families in turn, ``size`` pixels square.

    Test pictures have up to ``questions`` each.

    Raises:
        ParamsError: ``family`` is unknown, or ``questions`` is below 1.
    """
    if family not in ("", *FAMILIES):
        raise ParamsError(f"rendered: no family {family!r}; there are {', '.join(FAMILIES)}")
    if questions < 1:
        raise ParamsError(f"rendered: {questions} questions a test picture; a benchmark needs 1 or more")
    split, first = _PARTS[request.split]
    step = 2 if split == "train" else 1
    return (
        RenderedRecord(one, split, index, request.seed, size, questions)
        for index in count(first, step)
        for one in ([family] if family else FAMILIES)
    )
