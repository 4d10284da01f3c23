"""Merge methods by name: from the utility of coalitions to a weight for every checkpoint.

One file each in this folder, with a function ``weights(utility, params)``. Weights sum to 1.
"""

from collections.abc import Callable, Iterable, Mapping

from fcotvl.core.config import MergeParams
from fcotvl.core.errors import DataError
from fcotvl.core.registry import Registry
from fcotvl.merge.shapley import Coalition, LazyTable, players_of

Utility = Mapping[Coalition, float]
"""Score of the uniform average of each coalition; the empty one is the student before ``sft``."""


class WeightedUtility(LazyTable[float]):
    """Score of the uniform average of each coalition, and of any weighted average.

    Args:
        players: the checkpoints.
        compute: scores a coalition.
        average: scores any weighted average, given the weights.
    """

    def __init__(
        self,
        players: Iterable[str],
        compute: Callable[[Coalition], float],
        average: Callable[[Mapping[str, float]], float],
    ) -> None:
        super().__init__(players, compute)
        self.average = average


Method = Callable[[WeightedUtility, MergeParams], dict[str, float]]

REGISTRY = Registry(__name__, "weights", noun="merge method")
available, get = REGISTRY.available, REGISTRY.get


def score_of(utility: Utility, members: Coalition) -> float:
    """The utility of ``members``.

    Raises:
        DataError: that coalition was not scored.
    """
    if members not in utility:
        raise DataError(f"coalition {sorted(members)} has no score; run merge again")
    return utility[members]


def checkpoints(utility: Utility) -> list[str]:
    """The checkpoints that can be merged, sorted.

    Raises:
        DataError: there is none.
    """
    if players := players_of(utility):
        return players
    raise DataError("the coalition table names no checkpoint; run sft and merge again")
