"""Q-Former style resampler: learned queries read the tile by cross-attention (FCoT-VL, table 3)."""

from typing import Annotated

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fcotvl.core.errors import ParamsError
from fcotvl.core.geometry import compressed

RATIOS = (0.25, 0.5, 0.75, 0.875)
Layers = Annotated[int, Field(ge=1, le=64)]
Hidden = Annotated[int, Field(ge=1, le=16384)]
START_STD = 0.02
"""Standard deviation of the initial weights, as in BERT and BLIP-2."""


class Compressor(nn.Module):
    """One learned query per output token; each attends to all tokens of its tile.

    Args:
        width: channels of a visual token.
        tokens: visual tokens of a tile.
        ratio: share of them removed.
        layers: number of blocks of cross-attention and feed-forward.
        heads: attention heads of a block.
        hidden: channels inside, between linear maps from and to ``width``.

    Raises:
        ParamsError: the channels do not divide among the heads.
    """

    def __init__(
        self, width: int, tokens: int, ratio: float, *, layers: Layers = 2, heads: int = 8, hidden: Hidden = 512
    ) -> None:
        super().__init__()
        if heads < 1 or hidden % heads:
            raise ParamsError(f"compressor 'qformer': {hidden} channels do not divide among {heads} heads")
        self.queries = nn.Parameter(torch.empty(compressed(tokens, ratio), hidden))
        self.positions = nn.Parameter(torch.empty(tokens, hidden))
        self.enter = nn.Linear(width, hidden)
        self.layers = nn.ModuleList(Block(hidden, heads) for _ in range(layers))
        self.leave = nn.Linear(hidden, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw small random weights and set biases to zero."""
        nn.init.normal_(self.queries, std=START_STD)
        nn.init.normal_(self.positions, std=START_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=START_STD)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Float[Tensor, "tile n width"]) -> Float[Tensor, "tile k width"]:
        """Return one token per query."""
        memory = self.enter(tokens) + self.positions
        states = self.queries.expand(len(tokens), -1, -1)
        for layer in self.layers:
            states = layer(states, memory)
        output: Tensor = self.leave(states)
        return output


class Block(nn.Module):
    """Pre-norm cross-attention and feed-forward, each with a residual."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_queries, self.norm_memory = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.query, self.key, self.value, self.out = (nn.Linear(hidden, hidden) for _ in range(4))
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(hidden), nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Linear(4 * hidden, hidden)
        )

    def forward(
        self, states: Float[Tensor, "tile k hidden"], memory: Float[Tensor, "tile n hidden"]
    ) -> Float[Tensor, "tile k hidden"]:
        """Update the queries' states by attention to ``memory``."""
        memory = self.norm_memory(memory)
        query, key, value = (
            rearrange(part, "tile n (head d) -> tile head n d", head=self.heads)
            for part in (self.query(self.norm_queries(states)), self.key(memory), self.value(memory))
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        states = states + self.out(rearrange(attended, "tile head k d -> tile k (head d)"))
        return states + self.feed_forward(states)
