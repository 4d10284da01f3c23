"""Pools of the study: checkpoints of several recipes that are merged as if one recipe had kept them."""

from fcotvl.core.config import Grid, Params


def members(grid: Grid, params: Params) -> dict[str, tuple[str, str]]:
    """The checkpoints of a grid's pool, by their names in it: the recipe of each, and its name there.

    A recipe's only one goes by the recipe's name, others by both.

    Args:
        grid: with a pool.
        params: the study that has it.
    """
    kept = {recipe: list(params.sft_budget(recipe).checkpoint_steps) for recipe in grid.pool}
    return {
        recipe if len(places) == 1 else f"{recipe}-{kept[recipe][place]}": (recipe, kept[recipe][place])
        for recipe, places in grid.pool.items()
        for place in places
    }
