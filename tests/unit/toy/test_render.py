"""The renderer: pictures, questions, facts and splits."""

import pytest
from PIL import ImageDraw

from fcotvl.toy.render import FAMILIES, LAYOUTS, MAX_FACTS, SPLITS, render
from fcotvl.toy.render.canvas import FACES, ROW
from fcotvl.toy.render.practice import CHARACTERS, practice_page
from fcotvl.toy.render.table import Fact, canonical, split_bucket


@pytest.fixture(scope="module", params=FAMILIES)
def rendered(request):
    return [render(request.param, "val", index, seed=3) for index in range(40)]


def test_a_picture_has_at_least_two_questions_of_each_kind(rendered):
    for drawn in rendered:
        kinds = [turn.kind for turn in drawn.turns]
        assert kinds[0] == "transcribe"
        assert kinds.count("extractive") >= 2
        assert kinds.count("reason") >= 2


def test_every_extractive_answer_is_drawn(rendered):
    for drawn in rendered:
        for turn in drawn.turns:
            if turn.kind == "extractive":
                assert turn.answers[0] in drawn.text


def test_the_transcription_holds_every_drawn_character(rendered):
    for drawn in rendered:
        drawn_characters = sorted(glyph.char for glyph in drawn.glyphs)
        assert drawn_characters == sorted(drawn.text.replace(" ", "").replace("\n", ""))
        assert drawn.turns[0].answers == (drawn.text,)


def test_every_character_lies_in_the_picture_and_clear_of_row_borders(rendered):
    for drawn in rendered:
        for glyph in drawn.glyphs:
            assert 0 < glyph.x < 224
            assert 4 <= glyph.y % ROW <= 10
            assert glyph.char in CHARACTERS


def test_rationales_end_in_the_answer(rendered):
    for drawn in rendered:
        for turn in drawn.turns[1:]:
            assert turn.rationale.endswith(turn.answers[0])


def test_turn_ids_are_unique(rendered):
    ids = [turn.id for drawn in rendered for turn in drawn.turns]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_at_least_four_layouts_and_uses_them_all(family):
    used = {render(family, "train", index, seed=0).layout for index in range(60)}
    assert len(used) >= 4
    assert used == {layout.__name__ for layout in LAYOUTS[family]}


@pytest.mark.parametrize("family", FAMILIES)
def test_some_pictures_hold_a_dozen_values(family):
    tables = [render(family, "train", index, seed=0).table for index in range(60)]
    assert max(table.count("\n") + 1 for table in tables) == MAX_FACTS


def test_there_are_at_least_two_faces():
    assert len(FACES) >= 2


def test_there_are_thousands_of_distinct_answers(monkeypatch):
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda *_, **__: None)  # pixels do not matter
    answers = {
        turn.answers[0]
        for family, count in (("chart", 1000), ("infographic", 1000), ("document", 6000))
        for index in range(count)
        for turn in render(family, "train", index, seed=1, extractive=12).turns
        if turn.kind != "transcribe"
    }
    assert len(answers) >= 5000


def test_density_bounds_the_number_of_values():
    tables = [render("chart", "train", index, seed=0, density=2).table for index in range(20)]
    assert max(table.count("\n") + 1 for table in tables) == 2


def test_another_size_scales_picture_and_glyphs():
    small, large = (render("chart", "train", 5, seed=0, image_size=size) for size in (224, 448))
    assert large.image.size == (448, 448)
    assert [(g.char, 2 * g.x, 2 * g.y) for g in small.glyphs] == [(g.char, g.x, g.y) for g in large.glyphs]


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match="poster"):
        render("poster", "train", 0, seed=0)


def test_splits_partition_the_buckets():
    buckets = [bucket for buckets in SPLITS.values() for bucket in buckets]
    assert sorted(buckets) == list(range(100))


def test_the_bucket_ignores_the_order_of_facts():
    facts = [Fact("Oats", "45", 45), Fact("Rice", "52", 52)]
    assert split_bucket(facts) == split_bucket(facts[::-1])
    assert canonical(facts) == "Oats=45\nRice=52"


def test_a_practice_page_is_full_of_characters_and_repeats():
    page, again = practice_page(4, seed=0), practice_page(4, seed=0)
    assert len(page.glyphs) > 30
    assert page.image.tobytes() == again.image.tobytes()
