"""From renders to the tensors that the teacher learns from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from fcotvl.data.render import FAMILIES, FULL, Glyph, Rendered, render
from fcotvl.data.render.practice import CHARACTERS, practice

if TYPE_CHECKING:
    from PIL import Image

SIDE = 224
PATCH = 14
GRID = SIDE // PATCH
SLOTS = 3
"""Most characters whose centres fall into one patch."""
CLASSES = len(CHARACTERS) + 1
"""Class 0 is an empty slot."""
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
_CODES = {char: code for code, char in enumerate(CHARACTERS, start=1)}


def to_pixels(pages: Sequence[Page]) -> Float[Tensor, "tiles 3 height width"]:
    """Normalise pictures with ImageNet's mean and deviation, as InternVL's processor does."""
    pictures = torch.stack([page.picture for page in pages]).float() / 255
    return ((pictures - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2).contiguous()


def patch_characters(glyphs: Iterable[Glyph]) -> Int[Tensor, "patches slots"]:
    """For every patch, the characters whose centres lie in it, from left to right."""
    cells: dict[int, list[tuple[float, int]]] = {}
    for glyph in glyphs:
        row, column = int(glyph.y) // PATCH, int(glyph.x) // PATCH
        cells.setdefault(row * GRID + column, []).append((glyph.x, _CODES[glyph.char]))
    target = np.zeros((GRID * GRID, SLOTS), dtype=np.int64)
    for cell, found in cells.items():
        for slot, (_, code) in enumerate(sorted(found)[:SLOTS]):
            target[cell, slot] = code
    return torch.from_numpy(target)


@dataclass(frozen=True)
class Page:
    """One picture to read."""

    picture: UInt8[Tensor, "height width 3"]
    characters: Int[Tensor, "patches slots"]
    render: Rendered | None


def _bytes(image: Image.Image) -> UInt8[Tensor, "height width 3"]:
    return torch.from_numpy(np.array(image))


def draw_page(index: int, seed: int, *, practice_share: float = 0.0, density: int = FULL) -> Page:
    """Page ``index`` of the endless training set: a practice page or a render of any family."""
    rng = Random(f"page-{seed}-{index}")  # noqa: S311 - pictures, not secrets
    if rng.random() < practice_share:
        canvas = practice(index, seed)
        return Page(_bytes(canvas.image), patch_characters(canvas.glyphs), None)
    drawn = render(
        rng.choice(FAMILIES),
        "train",
        index,
        seed,
        density=density,
        extractive=5,
        reason=3,
    )
    return Page(_bytes(drawn.image), patch_characters(drawn.glyphs), drawn)


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
    torch.multiprocessing.set_sharing_strategy("file_system")
    loader = DataLoader(stream, batch_size=size, num_workers=1, collate_fn=list, prefetch_factor=4)
    return iter(loader)
