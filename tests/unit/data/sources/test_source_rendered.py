"""Renders never share a picture or a table between splits, and a seed repeats them."""

from itertools import islice
from pathlib import Path

import pytest

from fcotvl.core.errors import ParamsError
from fcotvl.data.sources.rendered import read
from fcotvl.toy.render import FAMILIES, render
from tests.support.datasets import request

SPLITS = ("align", "instruct", "val", "test")
PICTURES = 8


def records(family, split, count, seed=0, **options):
    lazy = islice(read(request(Path(), split, seed), family=family, **options), count)
    return [one.load(split=split, licence="Apache-2.0", max_pixels=1)[0] for one in lazy]


@pytest.mark.parametrize("family", FAMILIES)
def test_splits_share_no_picture_and_no_table(family):
    pixels, tables, names = [], [], []
    for split in SPLITS:
        lazy = list(islice(read(request(Path(), split), family=family), PICTURES))
        tables += [render(family, d.split, d.index, d.seed).table for d in lazy]
        made = records(family, split, PICTURES)
        pixels += [record.sha256 for record in made]
        names += [turn.id for record in made for turn in record.turns]
    assert len(set(pixels)) == len(set(tables)) == PICTURES * len(SPLITS)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_test_picture_has_one_question_of_either_kind_in_turns(family):
    made = records(family, "test", 10)
    assert all(len(record.turns) == 1 for record in made)
    kinds = [record.turns[0].kind for record in made]
    assert kinds.count("extractive") >= 4
    assert kinds.count("reason") >= 4
    assert "transcribe" not in kinds


@pytest.mark.parametrize("family", FAMILIES)
def test_two_questions_of_a_test_picture_differ_in_kind(family):
    """They are the picture's own, the first is that of one question, and the picture stays the same."""
    two, one = records(family, "test", 10, questions=2), records(family, "test", 10)
    kinds = [{turn.kind for turn in record.turns} for record in two if len(record.turns) == 2]
    assert len(kinds) >= 8
    assert all(kind == {"extractive", "reason"} for kind in kinds)
    assert [record.turns[0] for record in two] == [record.turns[0] for record in one]
    assert [record.sha256 for record in two] == [record.sha256 for record in one]


@pytest.mark.parametrize("count", [3, 4])
def test_more_questions_take_the_kinds_in_turn(count):
    for number, record in enumerate(records("chart", "test", 6, questions=count)):
        kinds = [turn.kind for turn in record.turns]
        assert kinds == (["extractive", "reason"] * 3)[number % 2 :][:count]


def test_more_questions_than_a_picture_has_are_all_that_it_has():
    (made,) = records("chart", "test", 1, questions=99)
    assert len({turn.id for turn in made.turns}) == len(made.turns) > 2
    assert "transcribe" not in {turn.kind for turn in made.turns}


def test_a_test_picture_needs_a_question():
    with pytest.raises(ParamsError, match="0 questions a test picture; a benchmark needs 1 or more"):
        read(request(Path()), questions=0)


def test_a_training_picture_has_all_kinds():
    (made,) = records("chart", "align", 1)
    assert {turn.kind for turn in made.turns} == {"transcribe", "extractive", "reason"}
    assert made.source == "rendered/chart"
    assert made.decode().size == (made.width, made.height) == (224, 224)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    assert records("document", "align", 3) == records("document", "align", 3)
    assert records("document", "align", 3) != records("document", "align", 3, seed=1)


@pytest.mark.parametrize("split", SPLITS)
def test_without_a_family_all_come_in_turn(split):
    """In the order in which three sources of equal weight would be mixed."""
    one = list(islice(read(request(Path(), split)), 3 * PICTURES))
    three = [read(request(Path(), split), family=family) for family in FAMILIES]
    assert [record.family for record in one] == list(FAMILIES) * PICTURES
    assert one == [next(source) for _ in range(PICTURES) for source in three]


def test_an_unknown_family_is_answered_with_the_known_ones():
    with pytest.raises(ParamsError, match="no family 'map'; there are document, chart"):
        read(request(Path()), family="map")
