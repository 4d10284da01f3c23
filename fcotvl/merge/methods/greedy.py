"""Greedy soup: add checkpoints, best first, while the average does not get worse."""

from fcotvl.merge.methods import Options, Utility, checkpoints, register, score_of
from fcotvl.merge.shapley import Coalition


@register("greedy")
def greedy(utility: Utility, options: Options) -> dict[str, float]:  # noqa: ARG001 - contract
    """The same weight for every member of the soup, none for the others.

    Checkpoints are tried in the order of their scores alone (by name where some tie), and one is
    kept where the uniform average with it scores at least what it scored without it (recipe 1 of
    arXiv 2203.05482). All those scores are in the coalition table already.
    """
    names = checkpoints(utility)
    first, *others = sorted(names, key=lambda name: -score_of(utility, frozenset({name})))
    soup: Coalition = frozenset({first})
    for name in others:
        if score_of(utility, soup | {name}) >= score_of(utility, soup):
            soup |= {name}
    return {name: float(name in soup) / len(soup) for name in names}
