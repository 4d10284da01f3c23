"""Best single checkpoint: no merging at all, the selection that merging has to beat."""

from fcotvl.merge.methods import Options, Utility, checkpoints, register, score_of


@register("best")
def best(utility: Utility, options: Options) -> dict[str, float]:  # noqa: ARG001 - contract
    """All weight on the checkpoint that scores highest alone; the first by name where some tie."""
    names = checkpoints(utility)
    winner = max(names, key=lambda name: score_of(utility, frozenset({name})))
    return {name: float(name == winner) for name in names}
