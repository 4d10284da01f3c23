"""Average pooling: compression without any learning."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from fcotvl.compress.compressors._area_weights import area_weights
from fcotvl.core.geometry import group

RATIOS = (0.25, 0.5, 0.75, 0.875)


class Compressor(nn.Module):
    """Replace each run of g tokens by m area-weighted averages. It has no parameters."""

    def __init__(self, width: int, tokens: int, ratio: float) -> None:  # noqa: ARG002
        super().__init__()
        self.g, self.m = group(ratio)

    def forward(self, tokens: Float[Tensor, "tile n width"]) -> Float[Tensor, "tile k width"]:
        """Return ``m`` tokens for each run of ``g``."""
        runs = rearrange(tokens, "tile (run g) width -> tile run g width", g=self.g)
        if self.m == 1:
            return runs.mean(dim=2)
        return (area_weights(self.g, self.m).to(runs) @ runs).flatten(1, 2)
