"""Parameters of merging, as in params.yaml, and utilities by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fcotvl.core.config import MergeParams
from fcotvl.merge.methods import WeightedUtility
from fcotvl.merge.shapley import Coalition, players_of

PARAMS = MergeParams(
    headline="shapley",
    methods=("best", "greedy", "shapley", "uniform"),
    prompts=("direct",),
    singles=False,
    weights="clip",
    tau=0.01,
    permutations=32,
)


def utility_of(
    table: Mapping[Coalition, float], average: Callable[[Mapping[str, float]], float] | None = None
) -> WeightedUtility:
    """Utilities of ``table``; other averages by ``average``, or as if checkpoints did not interact."""

    def independent(shares: Mapping[str, float]) -> float:
        return sum(share * table[frozenset({name})] for name, share in shares.items())

    return WeightedUtility(players_of(table), table.__getitem__, average or independent)
