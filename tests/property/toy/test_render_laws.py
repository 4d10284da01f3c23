"""Laws of the renderer, over any family, split, index and seed."""

from hypothesis import given, settings
from hypothesis import strategies as st

from fcotvl.toy.render import FAMILIES, SPLITS, render
from fcotvl.toy.render.table import Fact, split_bucket

ANY_ARGUMENTS = {
    "family": st.sampled_from(FAMILIES),
    "split": st.sampled_from(sorted(SPLITS)),
    "index": st.integers(0, 10**9),
    "seed": st.integers(0, 10**6),
}


@settings(max_examples=40)
@given(**ANY_ARGUMENTS)
def test_a_picture_depends_on_its_arguments_alone(family, split, index, seed):
    first, second = (render(family, split, index, seed) for _ in range(2))
    assert first.image.tobytes() == second.image.tobytes()
    assert first.turns == second.turns


@settings(max_examples=60)
@given(**ANY_ARGUMENTS)
def test_a_table_belongs_to_its_split_and_so_to_no_other(family, split, index, seed):
    table = render(family, split, index, seed).table
    facts = [Fact(*line.split("=", 1)) for line in table.splitlines()]
    splits = [name for name, buckets in SPLITS.items() if split_bucket(facts) in buckets]
    assert splits == [split]
