"""DivPrune: keep the visual tokens that are farthest from each other.

Source: Alvar et al. 2025 (arXiv 2503.02175), in the greedy form of the authors' code (github.com/vbdi/divprune): the
tokens of a picture after the projector, all its tiles together; distance is 1 - cosine. The first token is the one
whose nearest other token is farthest away. Each next one is that whose nearest **kept** token is farthest away. Ties
go to the earlier token. What is kept stays in the order of the picture, and positions in the prompt are consecutive.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize
from transformers import InternVLConfig, InternVLForConditionalGeneration

from fcotvl.compress.config import full_tokens
from fcotvl.inference.early_pruning import EarlyPruning, Tokens
from fcotvl.inference.pruned_decoding import System


class DivPrune(EarlyPruning):
    """Chooses by distance."""

    def choose(self, tiles: Sequence[Tokens]) -> list[Tokens]:
        """The kept tokens of each tile, of which one picture may keep more in one tile than in another."""
        sizes = [len(tile) for tile in tiles]
        stays = torch.zeros(sum(sizes), dtype=torch.bool, device=tiles[0].device)
        stays[farthest(torch.cat(list(tiles)), self.kept(sum(sizes)))] = True
        return [tile[own] for tile, own in zip(tiles, stays.split(sizes), strict=True)]

    def choosing_flops(self, config: InternVLConfig, tiles: int) -> int:
        """FLOPs of the distance of each pair of tokens."""
        return 2 * (tiles * full_tokens(config)) ** 2 * int(config.text_config.hidden_size)


def farthest(tokens: Float[Tensor, "n width"], count: int) -> Int[Tensor, " count"]:
    """Indices of ``count`` tokens in the order in which they are chosen."""
    directions = normalize(tokens.float(), dim=-1)
    distances = 1 - directions @ directions.mT
    # Never itself the nearest: in the first choice a token's own distance of 0, later that of a token that is kept.
    nearest = distances.clone().fill_diagonal_(torch.inf).amin(dim=-1)
    chosen = []
    for number in range(count):
        best = nearest.argmax()
        chosen.append(best)
        nearest = distances[best].clone() if number == 0 else nearest.minimum(distances[best])
        nearest[best] = -torch.inf
    return torch.stack(chosen) if chosen else torch.empty(0, dtype=torch.long, device=tokens.device)


def build(
    teacher: InternVLForConditionalGeneration,
    *,
    ratio: float,
    layer: int,  # noqa: ARG001 - tokens are chosen before the LLM
) -> System:
    """Prune the teacher's projected tokens by distance."""
    return System(teacher, DivPrune(ratio))
