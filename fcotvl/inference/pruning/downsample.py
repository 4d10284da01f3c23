"""Downsampling: the same teacher on smaller tiles, with the position embeddings of its ViT interpolated.

Each tile is resized (bicubic, antialiased) to the grid of visual tokens that comes nearest to the share kept, among
the grids whose sides differ by at most one, rows the fewer; of equally near ones the smaller. Of 8 x 8 tokens, 50 %
removed makes 5 x 6 = 30, 75 % 4 x 4, 25 % 7 x 7 = 49 and 87.5 % 3 x 3 = 9. Tiling is the teacher's, so a picture loses
the same share everywhere. transformers' ViT interpolates its position embeddings (bicubic) by itself.

Source: the control of VTC-Bench (Liao et al. 2025, arXiv 2510.07143), here with tiles in place of whole pictures.
"""

from dataclasses import dataclass
from math import isqrt

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLModel

from fcotvl.compress.config import full_tokens, shuffle_factor
from fcotvl.compress.student import Features, encode_tiles
from fcotvl.inference.early_pruning import EarlyPruning
from fcotvl.inference.pruned_decoding import System


@dataclass(frozen=True)
class Downsampling(EarlyPruning):
    """Encodes smaller tiles. ``ratio`` is the true one."""

    grid: tuple[int, int]
    """Rows and columns of visual tokens."""
    encodes = True

    def encode(self, model: InternVLModel, pixel_values: Float[Tensor, "tile 3 h w"]) -> Features:
        """Visual tokens of resized tiles."""
        size = self.tile_size(model.config)
        if size == tuple(pixel_values.shape[2:]):
            return encode_tiles(model, pixel_values)
        return encode_tiles(model, interpolate(pixel_values, size, mode="bicubic", antialias=True))

    def tile_size(self, config: InternVLConfig) -> tuple[int, int]:
        """Height and width in pixels of what the ViT sees of a tile."""
        height, width = (
            n * patch * shuffle_factor(config)
            for n, patch in zip(self.grid, config.vision_config.patch_size, strict=True)
        )
        return height, width


def nearest_grid(tokens: int, ratio: float) -> tuple[int, int]:
    """Rows and columns that keep nearest to 1 - ``ratio`` of ``tokens``, a square number."""
    side, kept = isqrt(tokens), tokens * (1 - ratio)
    grids = [(rows, columns) for rows in range(1, side + 1) for columns in (rows, rows + 1) if columns <= side]
    return min(grids, key=lambda grid: (abs(grid[0] * grid[1] - kept), grid))


def build(
    teacher: InternVLForConditionalGeneration,
    *,
    ratio: float,
    layer: int,  # noqa: ARG001 - the LLM sees fewer tokens from its start
) -> System:
    """Show the teacher smaller tiles."""
    full = full_tokens(teacher.config)
    rows, columns = nearest_grid(full, ratio)
    return System(teacher, Downsampling(1 - rows * columns / full, (rows, columns)))
