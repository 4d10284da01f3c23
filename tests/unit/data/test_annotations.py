"""A damaged annotation is one clear line, and no path in it leads out of the data set."""

import os

import pytest

from fcotvl.core.errors import DataError
from fcotvl.data.annotations import existing, first_existing, inside, open_file, parse_lines, read_rows, read_text
from fcotvl.data.fields import integer, text, texts


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"chartqa: no .ChartQA' in"):
        existing(tmp_path, "ChartQA", "chartqa")


def test_the_first_name_that_exists_is_taken(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "c").mkdir()
    assert first_existing(tmp_path, ["a", "b", "c"], "docvqa") == tmp_path / "b"
    with pytest.raises(DataError, match=r"docvqa: no x in .* \(nor 1 other places\)"):
        first_existing(tmp_path, ["x", "y"], "docvqa")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'["\xa3"]', "not UTF-8 .byte 0xa3 at 2"),
        (b'{"data": 3}', "holds int, expected a list of rows"),
        (b"[]", "a row is list \\[\\], expected an object with data"),
        (b'{"other": []}', "data is missing; found list \\['other'\\]"),
        (None, "cannot be read .No such file"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, content, reason):
    file = tmp_path / "rows.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=reason) as error:
        read_rows(file, "data")
    assert "\n" not in str(error.value)


def test_a_byte_order_mark_is_no_damage(tmp_path):
    file = tmp_path / "rows.json"
    file.write_bytes(b"\xef\xbb\xbf[1, 2]")
    assert read_rows(file) == [1, 2]


@pytest.mark.parametrize("name", ["a.png", "deep/er/a.png", "deep/../a.png", "..a.png"])
def test_paths_inside_are_taken(tmp_path, name):
    assert inside(tmp_path, name).resolve().is_relative_to(tmp_path)


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "deep/../../a.png", "", "a\0b", ".", "./"])
def test_paths_that_leave_are_refused(tmp_path, name):
    with pytest.raises(DataError, match=r"leaves the data set's folder|is not a file name"):
        inside(tmp_path / "set", name)


def test_a_link_that_leaves_is_refused(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "out").symlink_to(tmp_path)
    with pytest.raises(DataError, match="leaves"):
        inside(tmp_path / "set", "out/secret.png")


@pytest.mark.parametrize("row", [None, [], 3, {}, {"q": 3}, {"q": None}, {"q": "  "}, {"q": ["a"]}])
def test_text_is_text(row):
    with pytest.raises(DataError, match="q"):
        text(row, "q")


def test_text_is_cleaned_of_what_cannot_be_stored():
    assert text({"q": " caf\u00e9 \n"}, "q") == "caf\u00e9"
    assert text({"q": "lone \ud800 half"}, "q") == "lone ? half"


def test_answers_may_be_one_text_or_several():
    assert texts({"a": "5\n"}, "a") == ("5",)
    assert texts({"a": ["San Diego", "san diego", "San Diego", ""]}, "a") == ("San Diego", "san diego")
    assert texts({"a": []}, "a") == ()
    for wrong in (3, [3], None, {"x": 1}):
        with pytest.raises(DataError, match="expected a list of texts"):
            texts({"a": wrong}, "a")


def test_whole_numbers_may_be_written_as_text():
    assert integer({"id": 7}, "id") == integer({"id": "7"}, "id") == 7
    for wrong in (True, 7.5, "x", None, -1, "7" * 5000, 10**30):
        with pytest.raises(DataError, match="expected a whole number"):
            integer({"id": wrong}, "id")


def test_what_is_not_a_file_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(DataError, match=r"cannot be read \(not a file\)"):
            read_text(path)
        with pytest.raises(DataError, match=r"cannot be read \(not a file\); expected a file of annotations"):
            open_file(path)
        with pytest.raises(DataError, match="not a file"):  # by the call, before the first line is asked for
            parse_lines(path, lambda number, line: line, reader="test")


def test_a_number_with_too_many_digits_costs_its_row_alone(tmp_path):
    file = tmp_path / "rows.json"
    file.write_text(f'[{{"id": {"9" * 5000}}}, {{"id": 7}}]')
    long, short = read_rows(file)
    assert integer(short, "id") == 7
    with pytest.raises(DataError, match=r"id is str '999.*, expected a whole number"):
        integer(long, "id")
