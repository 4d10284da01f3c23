"""A seeded renderer of documents, charts and infographics, with questions, answers and glyphs.

``render("chart", "train", 7, seed=0)`` always gives the same picture. A picture's facts decide its split, so two splits
never share a picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from PIL import Image

from fcotvl.core.records import Turn
from fcotvl.toy.render import charts, documents, infographics
from fcotvl.toy.render.canvas import SIDE, Canvas, Glyph, RedrawError
from fcotvl.toy.render.questions import build_turns
from fcotvl.toy.render.table import Table, canonical, split_bucket

__all__ = ["FAMILIES", "LAYOUTS", "MAX_FACTS", "SPLITS", "Glyph", "Rendered", "render"]

Layout = Callable[[Canvas, Random, int], Table]

LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "document": documents.LAYOUTS,
    "chart": charts.LAYOUTS,
    "infographic": infographics.LAYOUTS,
}
FAMILIES: tuple[str, ...] = tuple(LAYOUTS)
SPLITS: dict[str, range] = {"train": range(80), "val": range(80, 90), "test": range(90, 100)}
"""Buckets of tables (``split_bucket``) of each split."""
MAX_FACTS = 12
"""Most facts in one picture."""
_ATTEMPTS = 5000


@dataclass(frozen=True)
class Rendered:
    """A picture with its questions, text, glyphs and facts."""

    image: Image.Image
    turns: tuple[Turn, ...]
    text: str
    """The whole text, in reading order."""
    glyphs: tuple[Glyph, ...]
    table: str
    """Its facts as sorted ``key=value`` lines: equal for two pictures with the same facts."""
    listed: tuple[str, ...]
    """Keys of its numeric facts, in the order of chains of thought."""
    layout: str


def render(
    family: str,
    split: str,
    index: int,
    seed: int,
    *,
    image_size: int = SIDE,
    density: int = MAX_FACTS,
    extractive: int = 3,
    reason: int = 3,
) -> Rendered:
    """Draw picture ``index`` of a split.

    Args:
        family: one of ``FAMILIES``.
        split: one of ``SPLITS``.
        index: number of the picture within its split.
        seed: changes all pictures.
        image_size: side in pixels; pictures are drawn at 224 and scaled to other sizes.
        density: most facts in the picture (1..MAX_FACTS); fewer than 4 leaves out some questions.
        extractive: most look-up questions.
        reason: most questions that need reasoning.

    Raises:
        ValueError: ``family`` or ``split`` is unknown.
    """
    if family not in LAYOUTS or split not in SPLITS:
        raise ValueError(
            f"unknown family {family!r} or split {split!r}; expected one of {FAMILIES} and one of {tuple(SPLITS)}"
        )
    name = f"{split}-{family}-{seed}-{index}"
    key = hashlib.sha256(f"{name}-{density}".encode()).digest()
    rng = Random(int.from_bytes(key, "big"))  # noqa: S311 - pictures, not secrets
    layout = rng.choice(LAYOUTS[family])
    for _ in range(_ATTEMPTS):
        canvas = Canvas(rng, lambda facts: split_bucket(facts) in SPLITS[split])
        try:
            table = layout(canvas, rng, density)
        except RedrawError:
            continue
        if not {fact.key for fact in table.facts} & set(table.title.split()):
            text = canvas.reading_order()
            turns = build_turns(table, text, name, rng, extractive=extractive, reason=reason)
            image, glyphs = _resize(canvas, image_size)
            facts = canonical(table.facts)
            listed = tuple(fact.key for fact in table.numeric)
            return Rendered(image, turns, text, glyphs, facts, listed, layout.__name__)
    raise RuntimeError(f"no content fits layout {layout.__name__} after {_ATTEMPTS} attempts")


def _resize(canvas: Canvas, size: int) -> tuple[Image.Image, tuple[Glyph, ...]]:
    if size == SIDE:
        return canvas.image, tuple(canvas.glyphs)
    scale = size / SIDE
    image = canvas.image.resize((size, size), Image.Resampling.BICUBIC)
    return image, tuple(Glyph(g.char, g.x * scale, g.y * scale, g.word) for g in canvas.glyphs)
