"""Best single checkpoint: no merging at all, the selection that merging has to beat."""

from fcotvl.core.config import MergeParams
from fcotvl.merge.methods import Utility, checkpoints, score_of


def weights(utility: Utility, params: MergeParams) -> dict[str, float]:  # noqa: ARG001 - contract
    """All weight on the checkpoint that scores highest alone; the first by name where some tie."""
    names = checkpoints(utility)
    winner = max(names, key=lambda name: score_of(utility, frozenset({name})))
    return {name: float(name == winner) for name in names}
