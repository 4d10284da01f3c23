"""Several rates in one batch: each tile passes through the one that makes its number of tokens."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Rate = Callable[[Float[Tensor, "tile n width"]], Float[Tensor, "tile k width"]]


def compress_by_tile(
    tokens: Float[Tensor, "tile n width"], tile_tokens: Sequence[int], rates: Mapping[int, Rate]
) -> list[Float[Tensor, "_ width"]]:
    """Compress each tile to its number of ``tile_tokens``, as one tensor per tile.

    Args:
        tokens: visual tokens.
        tile_tokens: how many each tile becomes.
        rates: what compresses tiles, by the number of tokens that it makes of one.

    Raises:
        ValueError: ``tile_tokens`` does not give one of these numbers for each tile.
    """
    if len(tile_tokens) != len(tokens) or not set(tile_tokens) <= rates.keys():
        raise ValueError(
            f"{len(tokens)} tiles need {' or '.join(map(str, rates))} tokens each, but "
            f"tile_tokens is {list(tile_tokens)}"
        )
    places = [[i for i, n in enumerate(tile_tokens) if n == count] for count in rates]
    indices = [torch.tensor(chosen, dtype=torch.long) for chosen in places]
    # Every rate runs, if only on zero tiles: processes that share a step wait for a gradient of every parameter.
    parts = [
        rate(tokens.index_select(0, index.to(tokens.device))).flatten(0, 1)
        for rate, index in zip(rates.values(), indices, strict=True)
    ]
    order = [place for chosen in places for place in chosen]
    pieces = torch.cat(parts).split([tile_tokens[place] for place in order])
    tiles = dict(zip(order, pieces, strict=True))
    return [tiles[place] for place in range(len(tokens))]
