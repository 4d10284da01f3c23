"""Where visual tokens stand in the LLM's sequence.

A student has fewer visual tokens than its teacher. If it counts them one by one, as InternVL's code does, what follows
a picture is nearer to it than the teacher's LLM knows, and so are the rows of a picture to each other: an LLM with
rotary embeddings finds things by distance. ``spread`` leaves the distances as they are: a tile takes up as many
positions as the teacher's does, and each token stands in the middle of those that it replaces. FastV's code keeps
positions for the same reason (arXiv 2403.06764), and V2PE (arXiv 2412.09616) trains an LLM for steps of other lengths.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import InternVLConfig

from fcotvl.compress.config import full_tokens

Widths = Int[Tensor, "row seq"]
"""How many positions each token takes up; 0: padding."""


def is_spread(config: InternVLConfig) -> bool:
    """Whether a model's visual tokens keep the teacher's positions."""
    return getattr(config, "positions", "consecutive") == "spread"


def visual_widths(config: InternVLConfig, tile_counts: Sequence[int]) -> list[int]:
    """How many positions each visual token takes up.

    Args:
        config: of a teacher or student.
        tile_counts: visual tokens of each tile, as the LLM reads them.
    """
    if not is_spread(config):
        return [1] * sum(tile_counts)
    full = full_tokens(config)
    return [(k + 1) * full // count - k * full // count for count in tile_counts for k in range(count)]


def token_widths(
    config: InternVLConfig,
    input_ids: Int[Tensor, "row seq"],
    attention_mask: Int[Tensor, "row seq"],
    tile_counts: Sequence[int],
) -> Widths:
    """How many positions each token of some prompts takes up.

    Args:
        config: of a teacher or student.
        input_ids: with a placeholder for each visual token.
        attention_mask: 1 on tokens, 0 on padding.
        tile_counts: visual tokens of each tile, in the order of rows and tiles.
    """
    if not is_spread(config):
        return attention_mask
    widths = attention_mask.clone()
    widths[input_ids == config.image_token_id] = torch.tensor(visual_widths(config, tile_counts)).to(widths)
    return widths


def positions(widths: Int[Tensor, "... seq"]) -> Int[Tensor, "... seq"]:
    """The position of each token in its own row: the middle of those that it takes up."""
    return widths.cumsum(dim=-1) - widths + widths // 2
