"""One table as Markdown, CSV and LaTeX."""

import io
import re
from dataclasses import replace
from math import nan

import pandas as pd
import pytest

from fcotvl.report.table import MISSING, Table, count, interval, number, render

TABLE = Table(
    "speed",
    "Speed & cost",
    "50 % of x_y.",
    pd.DataFrame({"System": ["A|B", "C_1"], "Time": ["0.51 [0.49, 0.53]", MISSING]}),
    pd.DataFrame({"system": ["a", "c"], "time": [0.512345678, nan]}),
)


@pytest.mark.parametrize(
    ("numbers", "options", "text"),
    [
        ((71.24, 68.9, 73.4), {}, "71.2 [68.9, 73.4]"),
        ((2.0, -1.0, 5.0), {"sign": "+"}, "+2.0 [-1.0, +5.0]"),
        ((0.512, 0.5, 0.52), {"digits": 2}, "0.51 [0.50, 0.52]"),
        ((5.0, nan, nan), {}, "5.0"),
        ((nan, nan, nan), {}, MISSING),
    ],
)
def test_a_score_is_followed_by_its_interval(numbers, options, text):
    assert interval(*numbers, **options) == text


def test_numbers_and_counts_are_short():
    assert (number(0.1234, 3), number(nan)) == ("0.123", MISSING)
    assert (count([200, 200]), count([150, 200])) == ("200", "150-200")


def test_markdown_has_title_note_and_one_line_per_row():
    lines = render(TABLE)["md"].splitlines()
    assert lines[0] == "**Speed & cost.** 50 % of x_y."
    assert len(lines) == 6
    assert "A\\|B" in lines[4]
    assert lines[4].count("|") - lines[4].count("\\|") == lines[3].count("|")


def test_a_long_note_is_wrapped_in_markdown():
    text = render(replace(TABLE, note="All of it is read. " * 20))["md"]
    caption = text.split("\n\n")[0].splitlines()
    assert " ".join(caption) == "**Speed & cost.** " + ("All of it is read. " * 20).strip()
    assert len(caption) > 1
    assert max(map(len, caption)) <= 120


def test_csv_holds_numbers_and_not_their_text():
    back = pd.read_csv(io.StringIO(render(TABLE)["csv"]))
    assert back.columns.tolist() == ["system", "time"]
    assert back["time"].tolist()[0] == pytest.approx(0.512346)
    assert back["time"].isna().tolist() == [False, True]


def test_latex_is_booktabs_with_special_characters_escaped():
    text = render(TABLE)["tex"]
    assert r"\toprule" in text
    assert r"Speed \& cost. 50 \% of x\_y." in text
    assert r"C\_1 & -- \\" in text
    assert r"\label{tab:speed}" in text


def test_latex_says_what_it_needs_and_sets_intervals_narrow():
    text = render(TABLE)["tex"]
    assert text.startswith("% Needs \\usepackage{booktabs}.\n")
    assert "A|B & $0.51_{0.49}^{0.53}$ \\\\" in text


def test_a_latex_table_wider_than_the_text_is_cut_and_each_part_names_its_rows():
    cells = {f"Benchmark {number}": ["50.0 [40.0, 60.0]"] * 2 for number in range(12)}
    shown = pd.DataFrame({"System": ["Student", "Student"], "Kind": ["a", "b"]} | cells)
    text = render(Table("wide", "Wide", "", shown, shown))["tex"]
    parts = text.split(r"\begin{table}")[1:]
    assert len(parts) > 1
    assert sum(part.count("Benchmark") for part in parts) == 12
    for place, part in enumerate(parts, start=1):
        assert rf"\caption{{Wide ({place} of {len(parts)})." in part
        assert "Student & a & " in part
        columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", part)[1]
        assert len(columns) <= 8
    assert len(set(re.findall(r"\\label\{.*\}", text))) == len(parts)


def test_a_name_is_text_in_markdown_too():
    shown = pd.DataFrame({"<i>set</i>": ["<img src=x>&lt;|"], "n": ["5 > 4 & 3"]})
    text = render(Table("t", "<b>T</b>", "a < b", shown, pd.DataFrame({"n": [5]})))["md"]
    assert text.startswith("**&lt;b>T&lt;/b>.** a &lt; b\n")
    assert "&lt;i>set&lt;/i>" in text
    assert "&lt;img src=x>&amp;lt;\\|" in text
    assert "5 > 4 & 3" in text
