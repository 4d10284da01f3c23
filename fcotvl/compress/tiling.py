"""InternVL's dynamic tiling: a picture becomes a grid of square tiles and a thumbnail."""

from __future__ import annotations

from PIL import Image

from fcotvl.core.geometry import best_grid, count_tiles, grids

__all__ = ["best_grid", "count_tiles", "cut", "grids"]


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
