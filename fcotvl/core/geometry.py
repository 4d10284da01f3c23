"""Tile grids and visual-token counts, stated once for prompts, connector and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

RATIOS: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 0.875)
"""Supported shares of visual tokens **removed**."""
PATCH_SIZE = 14
"""Side of a ViT patch in pixels, in every InternVL2 and in the tiny model."""
SHUFFLE_FACTOR = 2
"""Pixel shuffle makes one visual token of 2 x 2 patches."""
TILE_SIZES: Mapping[str, int] = {"tiny": 224, "internvl2-1b": 448, "internvl2-2b": 448, "internvl2-8b": 448}
"""Side of a tile in pixels, by architecture."""


def group(ratio: float) -> tuple[int, int]:
    """Return ``(g, m)``: each group of ``g`` visual tokens becomes ``m``.

    0 -> (1, 1), 0.25 -> (4, 3), 0.5 -> (2, 1), 0.75 -> (4, 1), 0.875 -> (8, 1).

    Raises:
        ValueError: ``ratio`` is not one of ``RATIOS``.
    """
    if ratio not in RATIOS:
        raise ValueError(f"ratio {ratio} is not one of {', '.join(map(str, RATIOS))}")
    kept = 1 - Fraction(ratio)
    return kept.denominator, kept.numerator


def tokens_per_tile(image_size: int, patch_size: int = PATCH_SIZE, factor: int = SHUFFLE_FACTOR) -> int:
    """Visual tokens of one tile after pixel shuffle: 448 -> 256, 224 -> 64.

    Args:
        image_size: side of a tile in pixels.
        patch_size: side of a ViT patch in pixels.
        factor: pixel-shuffle factor (blocks of ``factor x factor`` patches become one token).

    Raises:
        ValueError: the sizes do not divide.
    """
    side, rest = divmod(image_size, patch_size * factor)
    if rest:
        raise ValueError(f"{image_size} px tiles do not divide into {patch_size * factor} px tokens")
    return side * side


def compressed(tokens: int, ratio: float) -> int:
    """Visual tokens left of ``tokens`` after removing the share ``ratio``.

    Raises:
        ValueError: ``tokens`` does not divide into the groups of that ratio.
    """
    g, m = group(ratio)
    if tokens % g:
        raise ValueError(f"{tokens} visual tokens do not divide into groups of {g} (ratio {ratio})")
    return tokens // g * m


def tile_shares(ratio: float, ratios: Sequence[float]) -> tuple[Fraction, ...]:
    """Return the share of tiles at each of one or two ratios such that their mean is ``ratio``.

    ``tile_shares(0.75, (0.5, 0.875))`` is ``(1/3, 2/3)``.
    """
    if len(ratios) == 1:
        return (Fraction(1),)
    low, high = map(Fraction, ratios)
    above = (Fraction(ratio) - low) / (high - low)
    return 1 - above, above


@lru_cache
def grids(max_tiles: int) -> tuple[tuple[int, int], ...]:
    """List all ``(columns, rows)`` of up to ``max_tiles`` tiles, fewest tiles first.

    Raises:
        ValueError: ``max_tiles`` is less than 1.
    """
    if max_tiles < 1:
        raise ValueError(f"max_tiles is {max_tiles}; expected at least 1")
    sides = range(1, max_tiles + 1)
    pairs = [(c, r) for c in sides for r in sides if c * r <= max_tiles]
    return tuple(sorted(pairs, key=lambda grid: grid[0] * grid[1]))


def best_grid(width: int, height: int, *, tile_size: int, max_tiles: int) -> tuple[int, int]:
    """Return the ``(columns, rows)`` whose aspect ratio is closest to the picture's.

    Of equally close grids the larger one is taken only if the picture covers more than half of it.

    Source: InternVL 2410d1db, ``dynamic_preprocess``, with its 448 px tiles.
    """
    aspect = width / height
    best, smallest = (1, 1), float("inf")
    for columns, rows in grids(max_tiles):
        difference = abs(aspect - columns / rows)
        fills = width * height > 0.5 * tile_size**2 * columns * rows
        if difference < smallest or (difference == smallest and fills):
            best, smallest = (columns, rows), difference
    return best


def count_tiles(width: int, height: int, *, tile_size: int, max_tiles: int) -> int:
    """Count the tiles of a picture of this size, thumbnail included."""
    columns, rows = best_grid(width, height, tile_size=tile_size, max_tiles=max_tiles)
    return columns * rows + (columns * rows > 1)
