"""Strided 2-D convolution: merges blocks of the tile's grid, where ``cnn`` merges runs of a row."""

from __future__ import annotations

from math import isqrt

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

RATIOS = (0.5, 0.75, 0.875)
BLOCKS = {0.5: (1, 2), 0.75: (2, 2), 0.875: (2, 4)}
"""Rows and columns of the block that becomes one token, by ratio."""


class Compressor(nn.Conv2d):
    """Turn each block of the grid into one token with a learned kernel that starts as the mean."""

    def __init__(self, width: int, tokens: int, ratio: float) -> None:
        rows, columns = BLOCKS[ratio]
        self.side = isqrt(tokens)
        if self.side**2 != tokens or self.side % rows or self.side % columns:
            raise ValueError(f"{tokens} visual tokens do not form a grid of {rows} x {columns} blocks")
        super().__init__(width, width, kernel_size=(rows, columns), stride=(rows, columns))

    def reset_parameters(self) -> None:
        """Average each channel over the block, without bias and without mixing channels."""
        with torch.no_grad():
            area = self.weight[0, 0].numel()
            mean = torch.eye(self.in_channels)[:, :, None, None] / area
            self.weight.copy_(mean.expand_as(self.weight))
            if self.bias is not None:
                self.bias.zero_()

    def forward(self, tokens: Float[Tensor, "tile n width"]) -> Float[Tensor, "tile k width"]:
        """Return one token for each block, row by row."""
        grid = rearrange(tokens, "tile (y x) width -> tile width y x", y=self.side)
        return rearrange(super().forward(grid), "tile width y x -> tile (y x) width")
