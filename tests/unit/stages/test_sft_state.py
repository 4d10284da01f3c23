"""A fine-tuning that was stopped is taken up by itself alone."""

from fcotvl.core import config
from fcotvl.stages import sft


def test_recipes_that_differ_in_their_budget_alone_do_not_share_a_state():
    params = config.load(scale="smoke", mix="smoke")
    budget = params.scale_config.sft.model_copy(update={"steps_by_recipe": {"longer": 40}})
    changes = {
        "scale_config": params.scale_config.model_copy(update={"sft": budget}),
        "recipes": params.recipes | dict.fromkeys(("longer", "again"), params.recipes["full"]),
    }
    full, longer, again = (
        sft._cache_key(params.model_copy(update=changes | {"recipe": name})) for name in ("full", "longer", "again")
    )
    assert full == again != longer
