"""The seeded renderer: documents, charts and infographics with questions, answers and glyphs.

``render("chart", "train", 7, seed=0)`` gives the same picture everywhere and always. The value
table decides the split, so two splits can never share a table, and with it no picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from PIL import Image

from fcotvl.core.records import Turn
from fcotvl.toy.render import charts, documents, infographics
from fcotvl.toy.render.canvas import Canvas, Glyph, RedrawError, draw_style
from fcotvl.toy.render.questions import turns
from fcotvl.toy.render.table import Table, bucket, canonical

__all__ = ["FAMILIES", "FULL", "LAYOUTS", "SPLITS", "Glyph", "Rendered", "render"]

Layout = Callable[[Canvas, Random, int], Table]

LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "document": documents.LAYOUTS,
    "chart": charts.LAYOUTS,
    "infographic": infographics.LAYOUTS,
}
FAMILIES: tuple[str, ...] = tuple(LAYOUTS)
SPLITS: dict[str, range] = {"train": range(80), "val": range(80, 90), "test": range(90, 100)}
"""Which buckets of value tables belong to which split."""
FULL = 12
"""Most values in one picture."""
_ATTEMPTS = 5000


@dataclass(frozen=True)
class Rendered:
    """A picture and everything that is known about it."""

    image: Image.Image
    turns: tuple[Turn, ...]
    text: str
    """All that is written, in reading order."""
    glyphs: tuple[Glyph, ...]
    table: str
    """Its facts in canonical order: equal for two pictures that say the same."""
    listed: tuple[str, ...]
    """Keys of its numbers, in the order in which chains of thought list them."""
    layout: str


def render(
    family: str,
    split: str,
    index: int,
    seed: int,
    *,
    image_size: int = 224,
    density: int = FULL,
    extractive: int = 3,
    reason: int = 3,
) -> Rendered:
    """Draw picture ``index`` of a split.

    Args:
        family: one of ``FAMILIES``.
        split: one of ``SPLITS``.
        index: any number; each has its own picture.
        seed: another seed gives other pictures for the same indices.
        image_size: side in pixels; the layouts are made for 224 and scaled to other sizes.
        density: most values in the picture (1..FULL); fewer than 4 leaves out some questions.
        extractive: look-up questions.
        reason: questions to work out.

    Raises:
        ValueError: ``family`` or ``split`` is unknown.
    """
    if family not in LAYOUTS or split not in SPLITS:
        raise ValueError(f"no family {family!r} or split {split!r}: {FAMILIES}, {tuple(SPLITS)}")
    name = f"{split}-{family}-{seed}-{index}"
    key = hashlib.sha256(f"{name}-{density}".encode()).digest()
    rng = Random(int.from_bytes(key, "big"))  # noqa: S311 - pictures, not secrets
    layout = rng.choice(LAYOUTS[family])
    for _ in range(_ATTEMPTS):
        canvas = Canvas(draw_style(rng), rng, 224, lambda facts: bucket(facts) in SPLITS[split])
        try:
            table = layout(canvas, rng, density)
        except RedrawError:
            continue
        if not {fact.key for fact in table.facts} & set(table.title.split()):
            text = canvas.reading_order()
            asked = turns(table, text, name, rng, extractive=extractive, reason=reason)
            image, glyphs = _resize(canvas, image_size)
            facts = canonical(table.facts)
            listed = tuple(fact.key for fact in table.numeric)
            return Rendered(image, asked, text, glyphs, facts, listed, layout.__name__)
    raise RuntimeError(f"{layout.__name__} found no room in {_ATTEMPTS} attempts")


def _resize(canvas: Canvas, size: int) -> tuple[Image.Image, tuple[Glyph, ...]]:
    if size == canvas.side:
        return canvas.image, tuple(canvas.glyphs)
    scale = size / canvas.side
    image = canvas.image.resize((size, size), Image.Resampling.BICUBIC)
    return image, tuple(Glyph(g.char, g.x * scale, g.y * scale, g.word) for g in canvas.glyphs)
