"""InternVL's dynamic tiling: a picture becomes a grid of square tiles and a thumbnail."""

from PIL import Image

from fcotvl.core.geometry import best_grid


def split_into_tiles(picture: Image.Image, *, tile_size: int, max_tiles: int) -> list[Image.Image]:
    """Cut a picture into tiles, row by row; last comes a thumbnail if there is more than one.

    The picture is stretched to the grid without padding, as InternVL2 was trained.
    """
    picture = picture.convert("RGB")
    columns, rows = best_grid(*picture.size, tile_size=tile_size, max_tiles=max_tiles)
    resized = picture.resize((tile_size * columns, tile_size * rows), Image.Resampling.BICUBIC)
    corners = [(tile_size * c, tile_size * r) for r in range(rows) for c in range(columns)]
    tiles = [resized.crop((x, y, x + tile_size, y + tile_size)) for x, y in corners]
    if len(tiles) > 1:
        tiles.append(picture.resize((tile_size, tile_size), Image.Resampling.BICUBIC))
    return tiles
