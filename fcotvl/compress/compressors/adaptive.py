"""Two ratios around a mean: a complex tile keeps more visual tokens than a plain one.

The processor chooses by the tile's own pixels (``fcotvl.compress.tile_complexity``), so the number of tokens is known
before the prompt is tokenised and does not depend on other tiles. Our choice: the paper removes the same share of every
tile.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from fcotvl.compress.compressors import cnn
from fcotvl.compress.compressors._by_tile import compress_by_tile
from fcotvl.core.errors import ParamsError
from fcotvl.core.geometry import compressed

RATIOS = (0.5, 0.75)
"""Mean share of tokens removed, over all tiles."""
TILE_RATIOS = {0.5: (0.25, 0.75), 0.75: (0.5, 0.875)}
"""Share removed of a complex tile and of a plain one, by mean ratio."""


class Compressor(nn.Module):
    """A separate ``cnn`` for each of the two ratios; each tile passes through one of them.

    Args:
        width: channels of a visual token.
        tokens: visual tokens of a tile.
        ratio: mean share of them removed.
        threshold: complexity at which a tile counts as complex. Used by the processor; without it, ``distill``
            calibrates one.

    Raises:
        ParamsError: the threshold is not a number.
    """

    def __init__(self, width: int, tokens: int, ratio: float, *, threshold: object = None) -> None:
        super().__init__()
        if threshold is not None and type(threshold) not in (int, float):
            raise ParamsError(f"compressor 'adaptive': threshold {threshold!r} is not a number")
        self.counts = tuple(compressed(tokens, each) for each in TILE_RATIOS[ratio])
        self.rates = nn.ModuleList(cnn.Compressor(width, tokens, r) for r in TILE_RATIOS[ratio])

    def reset_parameters(self) -> None:
        """Initialise both as averages."""
        for rate in self.rates:
            if isinstance(rate, cnn.Compressor):
                rate.reset_parameters()

    def forward(
        self, tokens: Float[Tensor, "tile n width"], tile_tokens: Sequence[int]
    ) -> list[Float[Tensor, "_ width"]]:
        """Compress each tile to its number of ``tile_tokens``, as one tensor per tile.

        Raises:
            ValueError: ``tile_tokens`` does not give one of the two numbers for each tile.
        """
        return compress_by_tile(tokens, tile_tokens, dict(zip(self.counts, self.rates, strict=True)))
