"""Uniform soup: the plain average of all checkpoints (arXiv 2203.05482)."""

from fcotvl.core.config import MergeParams
from fcotvl.merge.methods import Utility, checkpoints


def weights(utility: Utility, params: MergeParams) -> dict[str, float]:  # noqa: ARG001 - contract
    """The same weight for every checkpoint, whatever its score."""
    names = checkpoints(utility)
    return dict.fromkeys(names, 1 / len(names))
