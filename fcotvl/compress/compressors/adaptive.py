"""Two rates around a mean budget: a tile that shows much keeps more tokens than one that does not.

The processor chooses by the tile's own pixels (``fcotvl.compress.tile_complexity``), so the number of tokens
is known before the prompt is tokenised and no tile depends on another. Our choice: the paper
removes the same share of every tile.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fcotvl.compress.compressors import cnn
from fcotvl.core.errors import ParamsError
from fcotvl.core.geometry import compressed

RATIOS = (0.5, 0.75)
"""The mean share of tokens removed, over all tiles."""
TILE_RATIOS = {0.5: (0.25, 0.75), 0.75: (0.5, 0.875)}
"""What a tile with much detail loses, and one with little."""


class Compressor(nn.Module):
    """A ``cnn`` of its own for each of the two rates; each tile passes one of them.

    Args:
        width: channels of a visual token.
        tokens: visual tokens of a tile.
        ratio: mean share of them that is removed.
        threshold: detail from which on a tile keeps more, for the processor; ``distill``
            calibrates it where there is none.

    Raises:
        ParamsError: the threshold is no number.
    """

    def __init__(self, width: int, tokens: int, ratio: float, *, threshold: object = None) -> None:
        super().__init__()
        if threshold is not None and type(threshold) not in (int, float):
            raise ParamsError(f"compressor 'adaptive': threshold {threshold!r} is no number")
        ratios = TILE_RATIOS[ratio]
        self.counts = tuple(compressed(tokens, each) for each in ratios)
        self.rates = nn.ModuleList(cnn.Compressor(width, tokens, each) for each in ratios)

    def reset_parameters(self) -> None:
        """Start both as averages."""
        for rate in self.rates:
            if isinstance(rate, cnn.Compressor):
                rate.reset_parameters()

    def forward(
        self, tokens: Float[Tensor, "tile n width"], tile_tokens: Sequence[int]
    ) -> list[Float[Tensor, "_ width"]]:
        """Each tile's tokens, as many as ``tile_tokens`` says, in the order of the tiles.

        Raises:
            ValueError: ``tile_tokens`` is not one of the two numbers for each tile.
        """
        if len(tile_tokens) != len(tokens) or not set(tile_tokens) <= set(self.counts):
            raise ValueError(
                f"{len(tokens)} tiles need {' or '.join(map(str, self.counts))} tokens each, but "
                f"tile_tokens is {list(tile_tokens)}"
            )
        places = [[i for i, n in enumerate(tile_tokens) if n == count] for count in self.counts]
        indices = [torch.tensor(chosen, dtype=torch.long) for chosen in places]
        # Both rates compute, be it on no tile: where processes share a step, all parameters need a
        # gradient in each.
        parts = [
            rate(tokens.index_select(0, index.to(tokens.device))).flatten(0, 1)
            for rate, index in zip(self.rates, indices, strict=True)
        ]
        order = [place for chosen in places for place in chosen]
        made = torch.cat(parts).split([tile_tokens[place] for place in order])
        tiles = dict(zip(order, made, strict=True))
        return [tiles[place] for place in range(len(tokens))]
