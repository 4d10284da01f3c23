"""The 1-D convolution with PyTorch's random start: shows how much of ``cnn`` is its start."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from fcotvl.core.geometry import group

RATIOS = (0.25, 0.5, 0.75, 0.875)


class Compressor(nn.Conv1d):
    """Turn each run of g neighbouring tokens into m with one learned kernel."""

    def __init__(self, width: int, tokens: int, ratio: float) -> None:  # noqa: ARG002
        self.g, self.m = group(ratio)
        super().__init__(width, self.m * width, kernel_size=self.g, stride=self.g)

    def forward(self, tokens: Float[Tensor, "tile n width"]) -> Float[Tensor, "tile k width"]:
        """``m`` tokens for each run of ``g``."""
        return rearrange(
            super().forward(tokens.mT), "tile (m width) run -> tile (run m) width", m=self.m
        )
