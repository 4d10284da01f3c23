"""Which part of a picture each visual token covers, and a drawing of it.

A tile is a grid of cells, one for each visual token of the teacher. A compressor makes fewer tokens of them. Which
token reads which cells is found by trial, so that it holds for every compressor: not-a-number in one cell makes not-a-
number of exactly those tokens that read it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isqrt

import torch
from PIL import Image, ImageDraw
from transformers import BatchFeature, InternVLForConditionalGeneration

from fcotvl.compress.config import full_tokens, token_width
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.compress.student import encode_tiles, project_visual_tokens
from fcotvl.core.errors import ParamsError
from fcotvl.core.geometry import best_grid
from fcotvl.inference.early_pruning import EarlyPruning, Tokens
from fcotvl.inference.pruned_decoding import PrunedDecoder, System

SIDE = 672
"""Longest side of a drawing in pixels: three for each of a picture of the tiny model."""
LINE, HALO, VEIL = (0, 70, 140, 255), (255, 255, 255, 150), (128, 128, 128, 210)
"""Colours with their opacity; on light and on dark pictures, line and halo differ in brightness."""


@dataclass(frozen=True)
class Area:
    """Cells of a tile, and the tokens that read one or more of them and no other cell."""

    cells: frozenset[int]
    """Numbered row by row."""
    tokens: frozenset[int]
    """Numbered as the compressor returns them."""
    kept: int
    """How many of the tokens the last layer of the LLM reads."""


@dataclass(frozen=True)
class TokenMap:
    """What the visual tokens of one picture cover."""

    grid: tuple[int, int]
    """Columns and rows of tiles."""
    side: int
    """Cells in a row of a tile, and in a column."""
    tiles: tuple[tuple[Area, ...], ...]
    """Areas of each tile, tiles row by row; last those of the thumbnail, where there is more than one tile."""

    @property
    def tokens(self) -> int:
        """Visual tokens that the last layer of the LLM reads."""
        return sum(area.kept for tile in self.tiles for area in tile)

    def legend(self) -> str:
        """How to read the drawing."""
        areas = [area for tile in self.tiles for area in tile]
        sizes = Counter((len(area.cells), len(area.tokens)) for area in areas)
        words = [
            f"{count} area{'s' * (count > 1)} of {cells} cell{'s' * (cells > 1)}, read by {tokens} "
            f"token{'s' * (tokens > 1)}{' each' * (count > 1)}"
            for (cells, tokens), count in sorted(sizes.items())
        ]
        if dropped := sum(len(area.tokens) - area.kept for area in areas):
            words.append(f"grey: {dropped} tokens that are dropped")
        return "; ".join(words)


@torch.inference_mode()
def token_map(system: System, processor: FcotvlProcessor, picture: Image.Image, prompt: str) -> TokenMap:
    """Map the visual tokens that ``system`` reads of ``picture``.

    Args:
        system: teacher or student, with the pruning it decodes with, if any.
        processor: adapted to the system.
        picture: in RGB.
        prompt: the user's words: pruning by attention depends on them.

    Raises:
        ParamsError: the pruning method encodes tiles in a way of its own, so that its tokens are not the cells.
    """
    model, images = system.model, processor.image_processor
    inputs = processor(picture, processor.render(prompt)).to(model.device)
    counts = [processor.image_seq_length] * len(inputs["pixel_values"])
    if "tile_tokens" in inputs:
        counts = inputs["tile_tokens"].tolist()
    tiles = [areas(model, count) for count in counts]
    if system.pruning is not None:
        stays = _stays(system, inputs, counts, prompt)
        starts = [sum(counts[:tile]) for tile in range(len(counts))]
        tiles = [
            tuple(replace(area, kept=sum(stays[start + token] for token in area.tokens)) for area in tile)
            for start, tile in zip(starts, tiles, strict=True)
        ]
    grid = best_grid(*picture.size, tile_size=images.tile_size, max_tiles=images.max_tiles)
    return TokenMap(grid, isqrt(full_tokens(model.config)), tuple(tiles))


@lru_cache(maxsize=16)
@torch.inference_mode()
def areas(model: InternVLForConditionalGeneration, count: int) -> tuple[Area, ...]:
    """The areas of a tile that becomes ``count`` visual tokens, all of them kept."""
    found: list[tuple[frozenset[int], frozenset[int]]] = []
    for cell in range(full_tokens(model.config)):
        probe = torch.zeros(1, full_tokens(model.config), token_width(model.config))
        probe[0, cell] = torch.nan
        (visual,) = project_visual_tokens(model.model, probe.to(model.device, model.dtype), [count])
        cells, tokens = frozenset({cell}), frozenset(visual.isnan().any(dim=-1).nonzero()[:, 0].tolist())
        for other in [other for other in found if other[1] & tokens]:
            found.remove(other)
            cells, tokens = cells | other[0], tokens | other[1]
        found.append((cells, tokens))
    return tuple(Area(cells, tokens, len(tokens)) for cells, tokens in found)


def draw(picture: Image.Image, tokens: TokenMap) -> Image.Image:
    """The picture with a line around each area and a veil over what is dropped; below it a thumbnail, half as large."""
    columns, rows = tokens.grid
    scale = SIDE / max(picture.size)
    width, height = (max(1, round(scale * length)) for length in picture.size)
    whole = picture.resize((width, height))
    drawn = _outlined(whole, tokens.side, columns, tokens.tiles[: columns * rows])
    if len(tokens.tiles) == 1:
        return drawn
    small = whole.resize((max(1, width // 2), max(1, height // 2)))
    thumbnail = _outlined(small, tokens.side, 1, tokens.tiles[-1:])
    both = Image.new("RGB", (drawn.width, drawn.height + 12 + thumbnail.height), "white")
    both.paste(drawn, (0, 0))
    both.paste(thumbnail, (0, drawn.height + 12))
    return both


def _stays(system: System, inputs: BatchFeature, counts: Sequence[int], prompt: str) -> list[bool]:
    """For each visual token whether it stays."""
    model, ids, pruning = system.model, inputs["input_ids"], system.pruning
    if isinstance(pruning, EarlyPruning) and pruning.encodes:
        raise ParamsError(f"{type(pruning).__name__} reads tiles in a way of its own; its tokens cannot be drawn")
    features = project_visual_tokens(model.model, encode_tiles(model.model, inputs["pixel_values"]), counts)
    if isinstance(pruning, EarlyPruning):
        tiles = list(features)
        return [stays for tile, kept in zip(tiles, pruning.choose(tiles), strict=True) for stays in _among(tile, kept)]
    decoder = system.decoder([prompt])
    decoder.prefill(ids, inputs["attention_mask"], features)
    if not isinstance(decoder, PrunedDecoder):
        raise TypeError(f"{type(decoder).__name__} drops no tokens")
    visual = (ids[0] == model.config.image_token_id).nonzero()[:, 0]
    stays: list[bool] = torch.isin(visual, decoder.kept[0]).tolist()
    return stays


def _among(tokens: Tokens, kept: Tokens) -> list[bool]:
    """For each of ``tokens`` whether it is among ``kept``, which has the same order."""
    found, stays = 0, []
    for token in tokens:
        stays.append(found < len(kept) and torch.equal(token, kept[found]))
        found += stays[-1]
    return stays


def _outlined(picture: Image.Image, side: int, columns: int, tiles: Sequence[Sequence[Area]]) -> Image.Image:
    """Draw areas over a picture that ``columns`` tiles of ``side`` cells a row divide."""
    places: Mapping[tuple[int, int], tuple[int, Area]] = {
        (tile // columns * side + cell // side, tile % columns * side + cell % side): (tile, area)
        for tile, found in enumerate(tiles)
        for area in found
        for cell in area.cells
    }
    high, wide = len(tiles) // columns * side, columns * side
    layer = Image.new("RGBA", picture.size)
    pen = ImageDraw.Draw(layer)
    lines = []
    for (row, column), (_, area) in places.items():
        left, right = (round(x * picture.width / wide) for x in (column, column + 1))
        top, bottom = (round(y * picture.height / high) for y in (row, row + 1))
        veil = round(VEIL[3] * (1 - area.kept / len(area.tokens)))
        pen.rectangle((left, top, right - 1, bottom - 1), fill=(*VEIL[:3], veil))
        if places.get((row, column + 1)) != places[row, column]:
            lines.append((right, top, right, bottom))
        if places.get((row + 1, column)) != places[row, column]:
            lines.append((left, bottom, right, bottom))
    for colour, width in ((HALO, 4), (LINE, 1)):
        for line in lines:
            pen.line(line, fill=colour, width=width)
        pen.rectangle((0, 0, picture.width - 1, picture.height - 1), outline=colour, width=width)
    return Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")
