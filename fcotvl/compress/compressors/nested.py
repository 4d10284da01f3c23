"""One set of weights for every ratio: what is left at one ratio is merged further for the next.

As in Matryoshka Multimodal Models (M3, arXiv 2405.17430), coarser tokens are computed from finer ones: there by average
pooling, here by learned merges that start as averages. M3 trains each picture at every rate, and the Matryoshka Query
Transformer (arXiv 2405.19315) draws one for each step. Here one is drawn for each picture of a step, in distillation
and, as both papers train the LLM so, in fine-tuning.
"""

from collections.abc import Sequence
from functools import partial
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fcotvl.compress.compressors import cnn
from fcotvl.compress.compressors._by_tile import compress_by_tile
from fcotvl.core.geometry import compressed

RATIOS = (0.0, 0.25, 0.5, 0.75, 0.875)
TRAIN_RATIOS = (0.0, 0.25, 0.5, 0.75, 0.875)
MERGES = {0.0: 0, 0.5: 1, 0.75: 2, 0.875: 3}
"""How many times all pairs of neighbours are merged, by ratio."""


class Compressor(nn.Module):
    """Three merges in a row, each a ``cnn`` that makes one token of two neighbours.

    Their outputs are the tokens at 0.5, 0.75 and 0.875. At 0.25 the first one merges the second pair of each four
    tokens, and the first pair stays. At 0 nothing is merged.

    Args:
        width: channels of a visual token.
        tokens: visual tokens of a tile.
        ratio: share of them removed where ``forward`` is not told otherwise. The weights are the same at any ratio.
    """

    def __init__(self, width: int, tokens: int, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio
        self.counts = {each: compressed(tokens, each) for each in RATIOS}
        self.merges = nn.ModuleList(cnn.Compressor(width, tokens, 0.5) for _ in range(max(MERGES.values())))

    def reset_parameters(self) -> None:
        """Initialise each merge as an average."""
        for merge in self.merges:
            if isinstance(merge, cnn.Compressor):
                merge.reset_parameters()

    def forward(
        self, tokens: Float[Tensor, "tile n width"], tile_tokens: Sequence[int] | None = None
    ) -> Float[Tensor, "tile k width"] | list[Float[Tensor, "_ width"]]:
        """Compress all tiles at the compressor's own ratio, or each to its number of ``tile_tokens``, as a list.

        Raises:
            ValueError: ``tile_tokens`` does not give one of the numbers that the ratios leave for each tile.
        """
        if tile_tokens is None:
            return self._merge(self.ratio, tokens)
        return compress_by_tile(tokens, tile_tokens, {n: partial(self._merge, r) for r, n in self.counts.items()})

    def _merge(self, ratio: float, tokens: Float[Tensor, "tile n width"]) -> Float[Tensor, "tile k width"]:
        """The tokens that are left at ``ratio``."""
        if ratio not in MERGES:  # 0.25
            fours, merged = tokens.unflatten(1, (-1, 4)), self._merge(0.5, tokens).unflatten(1, (-1, 2))
            return torch.cat([fours[:, :, :2], merged[:, :, 1:]], dim=2).flatten(1, 2)
        for merge in islice(self.merges, MERGES[ratio]):
            tokens = merge(tokens)
        return tokens
