"""The plan of a mix: shares by weight, no more than there is, nothing twice."""

import pytest

from fcotvl.core.config import CorpusParams, SourceParams, load
from fcotvl.data.plan import name, plan
from fcotvl.stages.plan import run

CORPUS = CorpusParams(align=1000, instruct=500, val=10, epochs=1, shard_size=10, max_pixels=10, near_duplicate=0)


def source(weight, images=None, splits=("align",), **options):
    return SourceParams(
        reader="huggingface", options=options, weight=weight, licence="CC0", splits=splits, images=images
    )


def taken(*sources):
    return [dict(one.taken) for one in plan(sources, CORPUS)]


def test_shares_follow_the_weights():
    assert taken(source(3), source(1)) == [{"align": 750}, {"align": 250}]


def test_a_dry_source_leaves_its_share_to_the_others():
    assert taken(source(1, 100), source(1, 450), source(2)) == [{"align": 100}, {"align": 300}, {"align": 600}]


def test_what_is_not_there_is_not_taken():
    assert taken(source(1, 100), source(1, 200)) == [{"align": 100}, {"align": 200}]


def test_a_dry_source_is_repeated_to_its_share_but_never_for_val():
    sources = [source(1, 110, ("align", "val")), source(1, splits=("align", "val"))]
    planned = plan(sources, CORPUS.model_copy(update={"epochs": 4, "val": 100}))
    assert [dict(one.taken) for one in planned] == [{"val": 20, "align": 360}, {"val": 80, "align": 640}]
    assert [one.epochs for one in planned] == [4.0, 1.0]


def test_a_source_of_two_splits_gives_each_its_part():
    assert taken(source(1, 200, ("align", "instruct"))) == [{"align": 100, "instruct": 100}]


def test_a_source_is_named_by_what_tells_it():
    assert name(source(1, id="a/b", config="c", format="flat")) == "a/b c"


@pytest.mark.parametrize("mix", ["public", "rendered", "local", "smoke"])
def test_every_mix_has_a_plan(mix, capsys):
    run(load(mix=mix))
    shown = capsys.readouterr().out
    corpus = load(mix=mix).mix_config.corpus
    assert f"{corpus.align:,}" in shown
    assert "Downloads:" in shown
    hub = [one for one in load(mix=mix).mix_config.sources if one.reader == "huggingface"]
    unknown = ", ".join(name(one) for one in hub if one.gigabytes is None)
    assert ("Of unknown size: " in shown) == bool(unknown)
    assert unknown in shown


def test_the_public_recipe_is_within_a_tenth_of_the_papers_budget():
    """2 M alignment images, and 1.5 M with about three questions each."""
    mix = load(mix="public").mix_config
    planned = plan(mix.sources, mix.corpus)
    for split, asked in (("align", 2_000_000), ("instruct", 1_500_000), ("val", 2000)):
        assert getattr(mix.corpus, split) == asked
        assert sum(one.taken.get(split, 0) for one in planned) >= 0.9 * asked
    assert all(one.licence for one in planned)
