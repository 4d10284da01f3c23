"""Pools of the study: checkpoints of several recipes that are merged as if one recipe had kept them."""

from collections.abc import Sequence

from fcotvl.core.config import Grid


def members(grid: Grid, kept: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The checkpoints of a grid's pool, by their names in it: the recipe of each, and its name there.

    A recipe's only one goes by the recipe's name, others by both.

    Args:
        grid: with a pool.
        kept: names of the checkpoints that each recipe keeps, in their order.
    """
    return {
        recipe if len(places) == 1 else f"{recipe}-{kept[place]}": (recipe, kept[place])
        for recipe, places in grid.pool.items()
        for place in places
    }
