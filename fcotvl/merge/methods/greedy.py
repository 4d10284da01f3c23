"""Greedy soup: add checkpoints, best first, while the average does not get worse."""

from fcotvl.core.config import MergeParams
from fcotvl.merge.methods import Utility, checkpoints, score_of
from fcotvl.merge.shapley import Coalition


def weights(utility: Utility, params: MergeParams) -> dict[str, float]:  # noqa: ARG001 - contract
    """The same weight for every member of the soup, none for the others.

    Checkpoints are tried in the order of their scores alone (by name where some tie). One is kept if the uniform
    average with it scores at least as much as without it (recipe 1 of arXiv 2203.05482).
    """
    names = checkpoints(utility)
    first, *others = sorted(names, key=lambda name: -score_of(utility, frozenset({name})))
    soup: Coalition = frozenset({first})
    for name in others:
        if score_of(utility, soup | {name}) >= score_of(utility, soup):
            soup |= {name}
    return {name: float(name in soup) / len(soup) for name in names}
