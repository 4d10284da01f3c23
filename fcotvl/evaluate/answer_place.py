"""Where in a picture an answer is written, for pictures whose text is known to lie where it was drawn.

Records carry no boxes. The renderer's pictures are drawn again from their ids, and count only if not a pixel differs.
"""

import re
from itertools import groupby
from operator import attrgetter

from fcotvl.core.records import Record, pixel_digest
from fcotvl.toy.render import FAMILIES, SPLITS, Glyph, render

Point = tuple[float, float]
"""A place in a picture, as shares of its width and height."""


def answer_place(record: Record, answer: str) -> list[Point]:
    """The middles of the characters of ``answer``, wherever its words are written one after the other.

    Empty where it is not written in the picture, as a sum is not, and for pictures that are not the renderer's.
    """
    words = [(_text(word), word) for word in _drawn(record)]
    sought = answer.split()
    found = [
        glyph
        for start in range(len(words) - len(sought) + 1)
        if sought and [text for text, _ in words[start : start + len(sought)]] == sought
        for _, word in words[start : start + len(sought)]
        for glyph in word
    ]
    return [(glyph.x / record.width, glyph.y / record.height) for glyph in found]


def _drawn(record: Record) -> list[list[Glyph]]:
    """The words of a rendered picture, in the order in which they were drawn."""
    name = re.fullmatch(r"(\w+)-(\w+)-(\d+)-(\d+)", record.id)
    if not name or not record.source.startswith("rendered/") or name[1] not in SPLITS or name[2] not in FAMILIES:
        return []
    drawn = render(name[2], name[1], int(name[4]), int(name[3]), image_size=record.width)
    if pixel_digest(drawn.image) != record.sha256:
        return []
    return [list(glyphs) for _, glyphs in groupby(drawn.glyphs, key=attrgetter("word"))]


def _text(word: list[Glyph]) -> str:
    """The word without the colon that may follow a key."""
    return "".join(glyph.char for glyph in word).rstrip(":")
