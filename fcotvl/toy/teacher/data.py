"""From renders to the tensors that the teacher learns from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import attrgetter
from random import Random

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from fcotvl.toy.render import FAMILIES, MAX_FACTS, Glyph, Rendered, render
from fcotvl.toy.render.canvas import ROW
from fcotvl.toy.render.practice import CHARACTERS, practice_page as practice

SIDE = 224
PATCH = 14
GRID = SIDE // PATCH
SLOTS = 3
"""Most characters whose centres fall into one patch."""
GATHERED = 4
"""Patches of a word from which it can be told: about six characters."""
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
        cells.setdefault(patch(glyph), []).append((glyph.x, CODES[glyph.char]))
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


@dataclass(frozen=True)
class Spot:
    """Where a fact is drawn: the visual token of each character but blanks."""

    key: str
    value: str
    key_at: tuple[int, ...]
    value_at: tuple[int, ...]
    bound: tuple[tuple[int, int], ...] = ()
    """Patches: of each of the value's characters, and where the key begins; of each of the key's,
    and where the key that is listed before it begins."""


def patch(glyph: Glyph) -> int:
    """Number of the patch that holds the glyph's centre."""
    return int(glyph.y) // PATCH * GRID + int(glyph.x) // PATCH


def visual_token(glyph: Glyph) -> int:
    """Number of the visual token whose 2 x 2 patches hold the glyph's centre."""
    row, column = int(glyph.y) // (2 * PATCH), int(glyph.x) // (2 * PATCH)
    return row * (GRID // 2) + column


def gathered(glyphs: Sequence[Glyph]) -> tuple[tuple[int, ...], ...]:
    """For each patch of a word: itself and the word's first ``GATHERED`` patches."""
    rows = []
    for word in _words(glyphs):
        patches = list(dict.fromkeys(map(patch, word)))
        firsts = [patches[min(at, len(patches) - 1)] for at in range(GATHERED)]
        rows += [(own, *firsts) for own in patches]
    return tuple(rows)


def find_spots(glyphs: Sequence[Glyph], table: str, listed: Sequence[str] = ()) -> tuple[Spot, ...]:
    """Find the picture's facts: a value is the one drawn nearest to its key.

    Args:
        glyphs: in drawing order.
        table: the facts as ``key=value`` lines.
        listed: keys in the order in which they are listed.
    """
    words = _words(glyphs)
    spelled = ["".join(glyph.char for glyph in word).rstrip(":") for word in words]
    before = {key: last for last, key in pairwise(listed) if last in spelled}
    spots = []
    for line in table.splitlines():
        key, value = line.split("=", 1)
        parts = value.split()
        starts = [at for at in range(len(words)) if spelled[at : at + len(parts)] == parts]
        if key in spelled and starts:
            home = spelled.index(key)
            best = min(starts, key=lambda at: abs(at - home))
            drawn = [glyph for word in words[best : best + len(parts)] for glyph in word]
            own = words[home][: len(key)]
            bound = [(patch(glyph), patch(own[0])) for glyph in drawn]
            if key in before:
                last = words[spelled.index(before[key])]
                bound += [(patch(glyph), patch(last[0])) for glyph in own]
            places = tuple(map(visual_token, own)), tuple(map(visual_token, drawn))
            spots.append(Spot(key, value, *places, tuple(bound)))
    return tuple(spots)


def _words(glyphs: Sequence[Glyph]) -> list[list[Glyph]]:
    return [list(word) for _, word in groupby(glyphs, key=attrgetter("word"))]


def shown_words(glyphs: Sequence[Glyph], spots: Sequence[Spot] = ()) -> tuple[Shown, ...]:
    """What each visual token shows, with the key of what is part of a value."""
    keys = {(spot.value_at, part): spot.key for spot in spots for part in spot.value.split()}
    shown = []
    for word in _words(glyphs):
        places = tuple(map(visual_token, word))
        spelled = "".join(glyph.char for glyph in word).rstrip(":")
        key = next(
            (
                key
                for (value_at, part), key in keys.items()
                if part == spelled and set(places) <= set(value_at)
            ),
            "",
        )
        shown += [Shown(place, spelled, key) for place in sorted(set(places))]
    return tuple(shown)


@dataclass(frozen=True)
class Page:
    """One picture to read, in NumPy arrays: they travel between processes by value."""

    picture: UInt8[np.ndarray, "height width 3"]
    characters: Int64[np.ndarray, "patches slots"]
    words: tuple[Shown, ...]
    gathered: tuple[tuple[int, ...], ...]
    spots: tuple[Spot, ...] = ()
    reading: tuple[int, ...] = ()
    """The visual token of each character but blanks, in reading order."""
    render: Rendered | None = None


def draw_page(index: int, seed: int, *, practice_share: float = 0.0, density: int = MAX_FACTS) -> Page:
    """Page ``index`` of the endless training set: a practice page or a render of any family."""
    rng = Random(f"page-{seed}-{index}")  # noqa: S311 - pictures, not secrets
    if rng.random() < practice_share:
        canvas = practice(index, seed)
        words = shown_words(canvas.glyphs)
        return Page(
            np.array(canvas.image), patch_characters(canvas.glyphs), words, gathered(canvas.glyphs)
        )
    drawn = render(
        rng.choice(FAMILIES),
        "train",
        index,
        seed,
        density=density,
        extractive=MAX_FACTS,
        reason=3,
    )
    spots = find_spots(drawn.glyphs, drawn.table, drawn.listed)
    lines = sorted(drawn.glyphs, key=lambda glyph: (int(glyph.y) // ROW, glyph.x))
    return Page(
        np.array(drawn.image),
        patch_characters(drawn.glyphs),
        shown_words(drawn.glyphs, spots),
        gathered(drawn.glyphs),
        spots,
        tuple(map(visual_token, lines)),
        drawn,
    )


@dataclass(frozen=True)
class PageStream(IterableDataset[Page]):
    """Pages ``start, start + 1, ...``, drawn in a worker process."""

    start: int
    seed: int
    practice_share: float = 0.0
    densities: tuple[int, ...] = (MAX_FACTS,)
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
