"""A canvas that remembers where it drew every character."""

# ruff: noqa: PLR2004 - pixels, shares and odds explain themselves where they stand

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from fcotvl.core.geometry import PATCH_SIZE, TILE_SIZES
from fcotvl.toy.render.table import Fact, Unit, draw_keys, draw_numbers, draw_unit

Colour = tuple[int, int, int]
Pixels = float | int

FACES: tuple[str, ...] = ("DejaVuSans", "DejaVuSans-Bold")
"""Bundled with matplotlib, so that no system font is needed."""
SIDE = TILE_SIZES["tiny"]
"""Side of a picture in pixels; the coordinates of all layouts assume 224."""
ROW = PATCH_SIZE
"""Lines are centred within a row of this many pixels, give or take ``JITTER``."""
JITTER = 3
SIZES: tuple[int, ...] = (15, 16, 17, 18)

LIGHT: tuple[tuple[Colour, Colour], ...] = (
    ((255, 255, 255), (0, 0, 0)),
    ((255, 255, 255), (25, 35, 90)),
    ((250, 247, 238), (50, 30, 20)),
    ((236, 243, 250), (15, 40, 70)),
    ((240, 248, 238), (15, 60, 30)),
    ((252, 240, 240), (95, 15, 25)),
)
"""Pairs of paper and ink."""
DARK: tuple[tuple[Colour, Colour], ...] = (
    ((25, 45, 85), (255, 255, 255)),
    ((40, 40, 45), (250, 245, 230)),
    ((20, 80, 70), (255, 255, 255)),
)
ACCENTS: tuple[Colour, ...] = (
    (70, 130, 180), (200, 80, 70), (90, 160, 90), (225, 160, 60), (140, 100, 170),
    (80, 170, 170), (170, 120, 90), (215, 120, 160), (120, 130, 140), (150, 180, 60),
)  # fmt: skip


class RedrawError(Exception):
    """The content does not fit the picture or its split: draw other content."""


@dataclass(frozen=True)
class Glyph:
    """One drawn character and its centre in pixels."""

    char: str
    x: Pixels
    y: Pixels
    word: int
    """Number of its word, in drawing order."""


@dataclass(frozen=True)
class Style:
    """Faces, text size and colours of one picture."""

    face: str
    title_face: str
    size: int
    paper: Colour
    ink: Colour
    accents: tuple[Colour, ...]


def draw_style(rng: Random) -> Style:
    """Draw faces, size and colours for one picture."""
    paper, ink = rng.choice(DARK if rng.random() < 0.1 else LIGHT)
    accents = tuple(rng.sample(ACCENTS, len(ACCENTS)))
    return Style(rng.choice(FACES), rng.choice(FACES), rng.choice(SIZES), paper, ink, accents)


@cache
def font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """Load a bundled face at ``size`` pixels."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{face}.ttf")
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


@cache
def _advance(face: str, size: int, char: str) -> Pixels:
    return font(face, size).getlength(char)


def text_width(text: str, face: str, size: int) -> Pixels:
    """Width of ``text`` in pixels."""
    return sum(_advance(face, size, char) for char in text)


class Canvas:
    """A square picture under construction."""

    def __init__(self, rng: Random, in_split: Callable[[Sequence[Fact]], bool]) -> None:
        self.rng, self.style, self._in_split = rng, draw_style(rng), in_split
        self.image = Image.new("RGB", (SIDE, SIDE), self.style.paper)
        self.draw = ImageDraw.Draw(self.image)
        self.glyphs: list[Glyph] = []
        self.texts: list[tuple[int, Pixels, str]] = []
        self._boxes: list[tuple[Pixels, Pixels, Pixels, Pixels]] = []

    def check_split(self, facts: Sequence[Fact]) -> None:
        """Call this before drawing ``facts``.

        Raises:
            RedrawError: they belong to another split.
        """
        if not self._in_split(facts):
            raise RedrawError

    def snap(self, y: Pixels) -> int:
        """The nearest line centre to ``y`` that stays clear of the borders between rows."""
        row, offset = divmod(round(y), ROW)
        half = ROW // 2
        return row * ROW + min(max(offset, half - JITTER), half + JITTER)

    def text(
        self,
        x: Pixels,
        y: Pixels,
        text: str,
        *,
        anchor: str = "l",
        size: int | None = None,
        face: str | None = None,
        ink: Colour | None = None,
    ) -> Pixels:
        """Draw one line centred vertically near ``y`` and return its right end.

        ``x`` is the left end (``anchor`` ``l``), the middle (``m``) or the right end (``r``).

        Raises:
            RedrawError: it would leave the picture or touch another text.
        """
        size, face = size or self.style.size, face or self.style.face
        width = text_width(text, face, size)
        left = round(x - {"l": 0.0, "m": width / 2, "r": width}[anchor])
        centre = self.snap(y)
        self._reserve(left, left + width, centre - 0.5 * size, centre + 0.5 * size)
        baseline = centre + round(0.36 * size)
        self.draw.text((left, baseline), text, ink or self.style.ink, font(face, size), anchor="ls")
        pen = float(left)
        word = self.glyphs[-1].word + 1 if self.glyphs else 0
        for char in text:
            step = _advance(face, size, char)
            if char == " ":
                word += 1
            else:
                self.glyphs.append(Glyph(char, pen + step / 2, centre, word))
            pen += step
        self.texts.append((centre, left, text))
        return left + width

    def title(self, text: str, *, left: tuple[int, int]) -> str:
        """Draw the title at a random position between two left ends and return it."""
        self.text(self.rng.randint(*left), 14, text, face=self.style.title_face)
        return text

    def _reserve(self, left: Pixels, right: Pixels, top: Pixels, bottom: Pixels) -> None:
        outside = left < 1 or right > SIDE - 1 or top < 0 or bottom > SIDE
        touches = any(left < r + 5 and right > x - 5 and top < b and bottom > t for x, r, t, b in self._boxes)
        if outside or touches:
            raise RedrawError
        self._boxes.append((left, right, top, bottom))

    def reading_order(self) -> str:
        """All texts, from top to bottom and from left to right within a line."""
        lines: dict[int, list[tuple[Pixels, str]]] = {}
        for centre, left, text in self.texts:
            lines.setdefault(centre // ROW, []).append((left, text))
        return "\n".join(" ".join(text for _, text in sorted(lines[row])) for row in sorted(lines))

    def rows(self, count: int, top: Pixels, bottom: Pixels) -> Sequence[Pixels]:
        """Centres of ``count`` lines spread over ``top..bottom`` with a common random shift."""
        pitch = min((bottom - top) / count, self.rng.uniform(23, 34))
        slack = (bottom - top) - pitch * count
        start = top + self.rng.uniform(0, max(slack, 0)) + pitch / 2
        return [start + pitch * i for i in range(count)]


def draw_facts(
    canvas: Canvas, density: int, *, rows: tuple[int, int], longest: int, columns: int = 1, unit: Unit | None = None
) -> tuple[tuple[Fact, ...], Unit, int]:
    """Draw numbers for a grid of ``columns`` and between ``rows`` rows: facts, unit, row count.

    There are at most ``density`` facts, and their keys have at most ``longest`` letters.

    Raises:
        RedrawError: they belong to another split.
    """
    rng = canvas.rng
    unit = unit or draw_unit(rng)
    count = rng.randint(*rows)
    facts = draw_numbers(rng, draw_keys(rng, min(columns * count, density), longest), unit)
    canvas.check_split(facts)
    return facts, unit, count
