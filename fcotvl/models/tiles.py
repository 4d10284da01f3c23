"""InternVL's dynamic tiling: a picture becomes a grid of square tiles and a thumbnail."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image


@lru_cache
def grids(max_tiles: int, min_tiles: int = 1) -> tuple[tuple[int, int], ...]:
    """All ``(columns, rows)`` of ``min_tiles`` to ``max_tiles`` tiles, fewest tiles first.

    Raises:
        ValueError: there is none.
    """
    if not 1 <= min_tiles <= max_tiles:
        raise ValueError(
            f"{min_tiles} to {max_tiles} tiles is not a range; expected 1 <= min <= max"
        )
    sides = range(1, max_tiles + 1)
    found = [(c, r) for c in sides for r in sides if min_tiles <= c * r <= max_tiles]
    return tuple(sorted(found, key=lambda grid: grid[0] * grid[1]))


def best_grid(
    width: int, height: int, *, tile_size: int, max_tiles: int, min_tiles: int = 1
) -> tuple[int, int]:
    """The ``(columns, rows)`` whose aspect ratio is closest to the picture's.

    Of equally close grids the larger one is taken only if the picture covers more than half of it.

    Source: InternVL 2410d1db, ``dynamic_preprocess``. The area there is compared with 448 px tiles.
    """
    aspect = width / height
    best, smallest = (1, 1), float("inf")
    for columns, rows in grids(max_tiles, min_tiles):
        difference = abs(aspect - columns / rows)
        fills = width * height > 0.5 * tile_size**2 * columns * rows
        if difference < smallest or (difference == smallest and fills):
            best, smallest = (columns, rows), difference
    return best


def count_tiles(width: int, height: int, *, tile_size: int, max_tiles: int) -> int:
    """How many tiles, thumbnail included, a picture of this size becomes."""
    columns, rows = best_grid(width, height, tile_size=tile_size, max_tiles=max_tiles)
    return columns * rows + (columns * rows > 1)


def cut(picture: Image.Image, *, tile_size: int, max_tiles: int) -> list[Image.Image]:
    """The picture's tiles, row by row, and last its thumbnail if there is more than one tile.

    The picture is stretched to the grid without padding, as InternVL2 was trained.
    """
    picture = picture.convert("RGB")
    columns, rows = best_grid(*picture.size, tile_size=tile_size, max_tiles=max_tiles)
    whole = picture.resize((tile_size * columns, tile_size * rows), Image.Resampling.BICUBIC)
    corners = [(tile_size * c, tile_size * r) for r in range(rows) for c in range(columns)]
    tiles = [whole.crop((x, y, x + tile_size, y + tile_size)) for x, y in corners]
    if len(tiles) > 1:
        tiles.append(picture.resize((tile_size, tile_size), Image.Resampling.BICUBIC))
    return tiles
