"""From renders to the tensors that the teacher learns from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from fcotvl.data.render import FAMILIES, FULL, Glyph, Rendered, render
from fcotvl.data.render.practice import CHARACTERS, practice

if TYPE_CHECKING:
    pass

SIDE = 224
PATCH = 14
GRID = SIDE // PATCH
SLOTS = 3
"""Most characters whose centres fall into one patch."""
CLASSES = len(CHARACTERS) + 1
"""Class 0 is an empty slot."""
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
CODES = {char: code for code, char in enumerate(CHARACTERS, start=1)}


def to_pixels(pages: Sequence[Page]) -> Float[Tensor, "tiles 3 height width"]:
    """Normalise pictures with ImageNet's mean and deviation, as InternVL's processor does."""
    pictures = torch.from_numpy(np.stack([page.picture for page in pages])).float() / 255
    return ((pictures - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2).contiguous()


def to_characters(pages: Sequence[Page]) -> Int[Tensor, "tiles patches slots"]:
    """The characters of every patch, as reading targets."""
    return torch.from_numpy(np.stack([page.characters for page in pages]))


def patch_characters(glyphs: Iterable[Glyph]) -> Int64[np.ndarray, "patches slots"]:
    """For every patch, the characters whose centres lie in it, from left to right."""
    cells: dict[int, list[tuple[float, int]]] = {}
    for glyph in glyphs:
        row, column = int(glyph.y) // PATCH, int(glyph.x) // PATCH
        cells.setdefault(row * GRID + column, []).append((glyph.x, CODES[glyph.char]))
    target = np.zeros((GRID * GRID, SLOTS), dtype=np.int64)
    for cell, found in cells.items():
        for slot, (_, code) in enumerate(sorted(found)[:SLOTS]):
            target[cell, slot] = code
    return target


@dataclass(frozen=True)
class Shown:
    """A word that a visual token shows, in part or whole."""

    place: int
    """Number of the visual token."""
    word: str
    key: str = ""
    """The key whose value it belongs to, where it belongs to one."""


def shown_words(glyphs: Iterable[Glyph], table: str = "") -> tuple[Shown, ...]:
    """What each visual token shows; a block of 2 x 2 patches is one.

    Args:
        glyphs: in drawing order.
        table: the picture's facts as ``key=value`` lines.
    """
    spelled: dict[int, str] = {}
    places: dict[int, set[int]] = {}
    for glyph in glyphs:
        row, column = int(glyph.y) // (2 * PATCH), int(glyph.x) // (2 * PATCH)
        spelled[glyph.word] = spelled.get(glyph.word, "") + glyph.char
        places.setdefault(glyph.word, set()).add(row * (GRID // 2) + column)
    words = [spelled[number].rstrip(":") for number in sorted(spelled)]
    keys = _keys(words, table)
    return tuple(
        Shown(place, word, keys.get(at, ""))
        for at, (word, number) in enumerate(zip(words, sorted(spelled), strict=True))
        for place in sorted(places[number])
    )


def _keys(words: Sequence[str], table: str) -> dict[int, str]:
    """For each word of a value, its key: the value is the one drawn nearest to the key."""
    found: dict[int, str] = {}
    for line in table.splitlines():
        key, value = line.split("=", 1)
        parts = value.split()
        starts = [at for at in range(len(words)) if list(words[at : at + len(parts)]) == parts]
        if key in words and starts:
            home = words.index(key)
            best = min(starts, key=lambda at: abs(at - home))
            found |= dict.fromkeys(range(best, best + len(parts)), key)
    return found


@dataclass(frozen=True)
class Page:
    """One picture to read, in NumPy arrays: they travel between processes by value."""

    picture: UInt8[np.ndarray, "height width 3"]
    characters: Int64[np.ndarray, "patches slots"]
    words: tuple[Shown, ...]
    render: Rendered | None


def draw_page(index: int, seed: int, *, practice_share: float = 0.0, density: int = FULL) -> Page:
    """Page ``index`` of the endless training set: a practice page or a render of any family."""
    rng = Random(f"page-{seed}-{index}")  # noqa: S311 - pictures, not secrets
    if rng.random() < practice_share:
        canvas = practice(index, seed)
        words = shown_words(canvas.glyphs)
        return Page(np.array(canvas.image), patch_characters(canvas.glyphs), words, None)
    drawn = render(
        rng.choice(FAMILIES),
        "train",
        index,
        seed,
        density=density,
        extractive=5,
        reason=3,
    )
    return Page(
        np.array(drawn.image),
        patch_characters(drawn.glyphs),
        shown_words(drawn.glyphs, drawn.table),
        drawn,
    )


@dataclass(frozen=True)
class PageStream(IterableDataset[Page]):
    """Pages ``start, start + 1, ...``, drawn in a worker process."""

    start: int
    seed: int
    practice_share: float = 0.0
    densities: tuple[int, ...] = (FULL,)
    """Most facts in a picture, drawn anew for every ``run`` of pages: equal lengths pad less."""
    run: int = 8

    def __iter__(self) -> Iterator[Page]:
        """Draw without end."""
        index = self.start
        while True:
            rng = Random(f"density-{self.seed}-{index // self.run}")  # noqa: S311
            yield draw_page(
                index,
                self.seed,
                practice_share=self.practice_share,
                density=rng.choice(self.densities),
            )
            index += 1


def batches(stream: PageStream, size: int) -> Iterator[list[Page]]:
    """Lists of ``size`` pages, drawn ahead in one worker process."""
    loader = DataLoader(stream, batch_size=size, num_workers=1, collate_fn=list, prefetch_factor=4)
    return iter(loader)
