"""What a data set without questions is turned into."""

import pytest

from fcotvl.data.ocr_tasks import key_information, table, transcription


def test_a_text_is_asked_for_line_by_line_without_empty_ones():
    turn = transcription("t", ["one  two", "", "  ", "three"])
    assert turn is not None
    assert turn.answers == ("one two\nthree",)


@pytest.mark.parametrize("lines", [[], ["", " "], ["x" * 2001]])
def test_no_text_and_too_much_text_are_not_asked_for(lines):
    assert transcription("t", lines) is None


def test_a_field_is_asked_for_without_its_colon():
    turn = key_information("t", "DATE :", " March  27 ")
    assert turn is not None
    assert (turn.question, turn.answers) == ("What is the DATE?", ("March 27",))


@pytest.mark.parametrize(("key", "value"), [("", "x"), (":", "x"), ("x", " ")])
def test_half_a_field_is_not_asked_for(key, value):
    assert key_information("t", key, value) is None


def test_structure_and_cells_must_match():
    with pytest.raises(ValueError, match="1 cells do not match"):
        table("t", ["<tr>", "<td>", "</td>", "<td>", "</td>", "</tr>"], ["a"])
