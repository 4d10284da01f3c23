"""Strided 1-D convolution, the paper's compressor (FCoT-VL, section 3.1), started as pooling."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from fcotvl.compress.compressors._area_weights import area_weights
from fcotvl.core.geometry import group

RATIOS = (0.25, 0.5, 0.75, 0.875)


class Compressor(nn.Conv1d):
    """Turn each run of g neighbouring tokens into m with one learned kernel.

    Kernel and stride are g, so runs do not overlap, and on even grids no run spans two rows. It starts equal to
    ``pool``, so the projector first sees tokens of a kind it knows.
    """

    def __init__(self, width: int, tokens: int, ratio: float) -> None:  # noqa: ARG002
        self.g, self.m = group(ratio)
        super().__init__(width, self.m * width, kernel_size=self.g, stride=self.g)

    def reset_parameters(self) -> None:
        """Average each channel over the run, without bias and without mixing channels."""
        width = self.in_channels
        with torch.no_grad():
            self.weight.zero_()
            kernel = self.weight.view(self.m, width, width, self.g)
            channels = torch.arange(width)
            kernel[:, channels, channels] = area_weights(self.g, self.m).to(kernel)[:, None]
            if self.bias is not None:
                self.bias.zero_()

    def forward(self, tokens: Float[Tensor, "tile n width"]) -> Float[Tensor, "tile k width"]:
        """Return ``m`` tokens for each run of ``g``."""
        return rearrange(super().forward(tokens.mT), "tile (m width) run -> tile (run m) width", m=self.m)
