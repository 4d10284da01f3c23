"""Rendered pictures with the supervision that the tiny teacher is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import attrgetter
from random import Random

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fcotvl.compress.processor import IMAGE_MEAN, IMAGE_STD
from fcotvl.core.geometry import PATCH_SIZE, SHUFFLE_FACTOR
from fcotvl.toy.render import FAMILIES, MAX_FACTS, Glyph, Rendered, render
from fcotvl.toy.render.canvas import ROW, SIDE
from fcotvl.toy.render.practice import CHARACTERS, practice_page

GRID = SIDE // PATCH_SIZE
"""Patches per row and per column."""
SLOTS = 3
"""Most characters whose centres lie in one patch."""
WORD_PATCHES = 4
"""First patches that identify a word: about six characters."""
CHARACTER_IDS = {char: code for code, char in enumerate(CHARACTERS, start=1)}
CLASSES = len(CHARACTERS) + 1
"""Class 0 is an empty slot."""
Curriculum = Sequence[tuple[float, tuple[int, ...]]]
"""Up to which share of the steps pictures hold at most how many facts, drawn from the tuple."""


@dataclass(frozen=True)
class TokenContent:
    """A word that a visual token shows, in part or whole."""

    token: int
    """Index of the visual token."""
    word: str
    key: str = ""
    """The key of the value that the word is part of, if any."""


@dataclass(frozen=True)
class FactLocation:
    """Where a fact is drawn: the visual token of each character except blanks."""

    key: str
    value: str
    key_tokens: tuple[int, ...]
    value_tokens: tuple[int, ...]
    patch_links: tuple[tuple[int, int], ...] = ()
    """Pairs of patches: of each character of the value and the start of its key; of each character of the key and the
    start of the key that is listed before it."""


@dataclass(frozen=True)
class Sample:
    """One picture with reading targets, as NumPy arrays so that worker processes can send it."""

    pixels: UInt8[np.ndarray, "height width 3"]
    characters: Int64[np.ndarray, "patches slots"]
    contents: tuple[TokenContent, ...]
    word_patches: tuple[tuple[int, ...], ...]
    facts: tuple[FactLocation, ...] = ()
    reading_order: tuple[int, ...] = ()
    """The visual token of each character except blanks, in reading order."""
    rendered: Rendered | None = None
    """``None`` for a practice page."""


def to_pixels(samples: Sequence[Sample]) -> Float[Tensor, "tiles 3 height width"]:
    """Normalise the pictures as InternVL's processor does."""
    pixels = torch.from_numpy(np.stack([sample.pixels for sample in samples])).float() / 255
    normalised = (pixels - torch.tensor(IMAGE_MEAN)) / torch.tensor(IMAGE_STD)
    return normalised.permute(0, 3, 1, 2).contiguous()


def to_characters(samples: Sequence[Sample]) -> Int[Tensor, "tiles patches slots"]:
    """The characters of every patch, as reading targets."""
    return torch.from_numpy(np.stack([sample.characters for sample in samples]))


def patch(glyph: Glyph) -> int:
    """Index of the patch that holds the glyph's centre."""
    return _cell(glyph, PATCH_SIZE)


def visual_token(glyph: Glyph) -> int:
    """Index of the visual token whose patches hold the glyph's centre."""
    return _cell(glyph, PATCH_SIZE * SHUFFLE_FACTOR)


def _cell(glyph: Glyph, size: int) -> int:
    return int(glyph.y) // size * (SIDE // size) + int(glyph.x) // size


def patch_characters(glyphs: Iterable[Glyph]) -> Int64[np.ndarray, "patches slots"]:
    """For every patch, the characters whose centres lie in it, from left to right."""
    cells: dict[int, list[tuple[float, int]]] = {}
    for glyph in glyphs:
        cells.setdefault(patch(glyph), []).append((glyph.x, CHARACTER_IDS[glyph.char]))
    target = np.zeros((GRID * GRID, SLOTS), dtype=np.int64)
    for cell, characters in cells.items():
        for slot, (_, code) in enumerate(sorted(characters)[:SLOTS]):
            target[cell, slot] = code
    return target


def word_patches(glyphs: Sequence[Glyph]) -> tuple[tuple[int, ...], ...]:
    """For each patch of a word: itself and the word's first ``WORD_PATCHES`` patches."""
    rows = []
    for word in _words(glyphs):
        patches = list(dict.fromkeys(map(patch, word)))
        first = [patches[min(index, len(patches) - 1)] for index in range(WORD_PATCHES)]
        rows += [(own, *first) for own in patches]
    return tuple(rows)


def locate_facts(glyphs: Sequence[Glyph], table: str, listed: Sequence[str] = ()) -> tuple[FactLocation, ...]:
    """Locate a picture's facts; of equal values, the one drawn nearest to the key is taken.

    Args:
        glyphs: in drawing order.
        table: the facts as ``key=value`` lines.
        listed: keys in the order in which they are listed.
    """
    words = _words(glyphs)
    spelled = [_spell(word) for word in words]
    previous = {key: before for before, key in pairwise(listed) if before in spelled}
    facts = []
    for line in table.splitlines():
        key, value = line.split("=", 1)
        parts = value.split()
        starts = [i for i in range(len(words)) if spelled[i : i + len(parts)] == parts]
        if key not in spelled or not starts:
            continue
        key_index = spelled.index(key)
        start = min(starts, key=lambda index: abs(index - key_index))
        value_glyphs = [glyph for word in words[start : start + len(parts)] for glyph in word]
        key_glyphs = words[key_index][: len(key)]
        links = [(patch(glyph), patch(key_glyphs[0])) for glyph in value_glyphs]
        if key in previous:
            before = words[spelled.index(previous[key])]
            links += [(patch(glyph), patch(before[0])) for glyph in key_glyphs]
        key_tokens, value_tokens = (tuple(map(visual_token, part)) for part in (key_glyphs, value_glyphs))
        facts.append(FactLocation(key, value, key_tokens, value_tokens, tuple(links)))
    return tuple(facts)


def token_contents(glyphs: Sequence[Glyph], facts: Sequence[FactLocation] = ()) -> tuple[TokenContent, ...]:
    """What each visual token shows, with the key of each word of a value."""
    keys = {(fact.value_tokens, part): fact.key for fact in facts for part in fact.value.split()}
    contents = []
    for word in _words(glyphs):
        tokens, spelled = set(map(visual_token, word)), _spell(word)
        owners = (k for (at, part), k in keys.items() if part == spelled and tokens <= set(at))
        key = next(owners, "")
        contents += [TokenContent(token, spelled, key) for token in sorted(tokens)]
    return tuple(contents)


def _words(glyphs: Sequence[Glyph]) -> list[list[Glyph]]:
    return [list(word) for _, word in groupby(glyphs, key=attrgetter("word"))]


def _spell(word: Sequence[Glyph]) -> str:
    return "".join(glyph.char for glyph in word).rstrip(":")


def draw_sample(index: int, seed: int, *, practice_share: float = 0.0, density: int = MAX_FACTS) -> Sample:
    """Sample ``index`` of the endless training set: a practice page or a render of any family."""
    rng = Random(f"page-{seed}-{index}")  # noqa: S311 - pictures, not secrets
    if rng.random() < practice_share:
        page = practice_page(index, seed)
        return _sample(page.image, page.glyphs)
    family = rng.choice(FAMILIES)
    rendered = render(family, "train", index, seed, density=density, extractive=MAX_FACTS, reason=3)
    facts = locate_facts(rendered.glyphs, rendered.table, rendered.listed)
    return _sample(rendered.image, rendered.glyphs, facts, rendered)


def _sample(
    image: Image.Image, glyphs: Sequence[Glyph], facts: tuple[FactLocation, ...] = (), rendered: Rendered | None = None
) -> Sample:
    lines = sorted(glyphs, key=lambda glyph: (int(glyph.y) // ROW, glyph.x)) if rendered else ()
    return Sample(
        np.array(image),
        patch_characters(glyphs),
        token_contents(glyphs, facts),
        word_patches(glyphs),
        facts,
        tuple(map(visual_token, lines)),
        rendered,
    )


@dataclass(frozen=True)
class SampleDataset(Dataset[Sample]):
    """The endless training set, by index."""

    seed: int
    densities: tuple[int, ...]
    """Choices for the most facts in a picture, drawn once per batch: equal lengths pad less."""
    batch_size: int
    practice_share: float

    def __getitem__(self, index: int) -> Sample:
        """Draw one sample."""
        rng = Random(f"density-{self.seed}-{index // self.batch_size}")  # noqa: S311
        density = rng.choice(self.densities)
        return draw_sample(index, self.seed, practice_share=self.practice_share, density=density)


def batches(
    curriculum: Curriculum, first: int, *, steps: int, size: int, seed: int, practice_share: float = 0.0
) -> Iterator[list[Sample]]:
    """One batch of ``size`` for each step from ``first`` on, drawn ahead in a worker process."""
    for share, densities in curriculum:
        last = int(share * steps)
        if first < last:
            dataset = SampleDataset(seed, densities, size, practice_share)
            indices = range(first * size, last * size)
            yield from DataLoader(dataset, size, sampler=indices, num_workers=1, collate_fn=list, prefetch_factor=4)
            first = last
