"""Attention mask of sequences in which several turns about one picture are packed."""

from jaxtyping import Bool, Int
from torch import Tensor

PICTURE = 0
"""Turn number of the picture and of all tokens before it."""


def turn_mask(turn: Int[Tensor, "row seq"]) -> Bool[Tensor, "row 1 seq seq"]:
    """Whether the position of axis 2 attends to the position of axis 3.

    Each position attends to itself and to earlier ones of the picture or of its own turn.

    Args:
        turn: ``PICTURE``, or another number for each turn and for padding, which comes last.
    """
    query, key = turn[:, :, None], turn[:, None, :]
    return ((key == PICTURE) | (key == query)).tril()[:, None]
