"""A table, and its Markdown, CSV and LaTeX."""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

MISSING = "\N{EN DASH}"
INTERVAL = re.compile(r"^(\S+) \[(\S+), (\S+)\]$")
"""A cell as ``interval`` writes it."""
PROMPTS = {"direct": "Direct answers", "cot": "Chain of thought"}


@dataclass(frozen=True)
class Table:
    """One table of the report."""

    name: str
    """Stem of its files."""
    title: str
    note: str
    """What was measured and how to read it, in a few sentences."""
    shown: pd.DataFrame
    """Cells as text, for people."""
    data: pd.DataFrame
    """The same as tidy numbers, for programs."""


def make_table(
    name: str, title: str, note: str, rows: Sequence[Mapping[Any, str]], data: pd.DataFrame | None, *, prompt: str = ""
) -> Table | None:
    """A table whose rows are cells by column, or ``None`` where there are no rows.

    With a ``prompt``, name and title say that the table is about that prompt.
    """
    if data is None or not rows:
        return None
    if prompt:
        name, title = f"{name}-{prompt}", titled(title, prompt)
    return Table(name, title, note, pd.DataFrame(rows), data)


def titled(title: str, prompt: str) -> str:
    """The title of a table or plot about one prompt."""
    return f"{title}. {PROMPTS.get(prompt, prompt)}"


def render(table: Table) -> dict[str, str]:
    """The table as text by file suffix: ``md``, ``csv`` (tidy numbers) and ``tex`` (booktabs)."""
    caption = f"**{_escape(table.title)}.** {_escape(table.note)}"
    caption = textwrap.fill(caption, 120, break_long_words=False, break_on_hyphens=False)
    return {
        "md": f"{caption}\n\n{_markdown(table.shown)}\n",
        "csv": table.data.to_csv(index=False, float_format="%.6g", lineterminator="\n"),
        "tex": _latex(table),
    }


def interval(value: float, low: float, high: float, *, digits: int = 1, sign: str = "") -> str:
    """``71.2 [68.9, 73.4]``; ``sign="+"`` marks gains."""
    if value is None or math.isnan(value):
        return MISSING
    ends = [f"{number:{sign}.{digits}f}" for number in (value, low, high)]
    if math.isnan(low) or math.isnan(high):
        return ends[0]
    return f"{ends[0]} [{ends[1]}, {ends[2]}]"


def number(value: float, digits: int = 1) -> str:
    """A number without an interval."""
    return MISSING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def count(values: Sequence[int]) -> str:
    """``200``, or ``150-200`` where counts differ."""
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}-{high}"


def _markdown(shown: pd.DataFrame) -> str:
    cells = shown.map(_cell).rename(columns=_cell)
    align = ["left"] + ["right"] * (len(shown.columns) - 1)
    return cells.to_markdown(index=False, disable_numparse=True, colalign=align) or ""


TEXT_WIDTH = 80
"""Characters of a line in the text of LaTeX's article class (345 pt), in the size of a footnote."""
_FIRST, _HEAD, _GAP = 36, 9, 2
"""Characters of a first column, of a line of a column's head, and of the space between columns, at most."""


def _latex(table: Table) -> str:
    """One float, or several for a table wider than the text; each names its rows by the first columns."""
    shown = table.shown.astype(str)
    names = list(shown.columns)
    unique = (count for count in range(1, len(names)) if not shown.duplicated(names[:count]).any())
    keys = names[: next(unique, 1)]
    longest = max(len(text) for text in (keys[0], *shown[keys[0]]))

    def width(name: str) -> int:
        cells = (len(INTERVAL.sub(r"\1\2", text)) for text in shown[name])
        return _GAP + max(*map(len, _head(name)), *cells)

    parts: list[list[str]] = [[]]
    margin = room = TEXT_WIDTH - min(_FIRST, longest) - sum(map(width, keys[1:]))
    for name in names[len(keys) :]:
        if width(name) > room and parts[-1]:
            parts.append([])
            room = margin
        parts[-1].append(name)
        room -= width(name)
    left = "l" if longest <= _FIRST else f"p{{{_FIRST / 2:.0f}em}}"
    note = table.note
    if shown.map(lambda text: bool(INTERVAL.match(text))).any(axis=None):
        note += " Sub- and superscript are the ends of the interval."
    floats = [r"% Needs \usepackage{booktabs}."]
    for number, part in enumerate(parts, start=1):
        title = f"{table.title} ({number} of {len(parts)})" if len(parts) > 1 else table.title
        body = shown[[*keys, *part]].map(_tex).rename(columns=_tex_head).style.hide(axis="index")
        floats += [
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}\renewcommand{\arraystretch}{1.2}",
            rf"\caption{{{_tex(title)}. {_tex(note)}}}",
            rf"\label{{tab:{table.name}{f'-{number}' if number > 1 else ''}}}",
            body.to_latex(hrules=True, column_format=left + "l" * (len(keys) - 1) + "r" * len(part)).rstrip(),
            r"\end{table}",
        ]
    return "\n".join([*floats, ""])


def _head(name: object) -> list[str]:
    """The head of a column, in lines."""
    return textwrap.wrap(str(name), _HEAD, break_long_words=False, break_on_hyphens=False) or [""]


def _tex_head(name: object) -> str:
    lines = r" \\ ".join(map(_tex, _head(name)))
    return rf"\shortstack[r]{{{lines}}}"


def _cell(text: object) -> str:
    return _escape(str(text)).replace("|", "\\|")


def _escape(text: str) -> str:
    """Names of data sets are text in Markdown too, not HTML."""
    return re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;")


_TEX = str.maketrans(
    {
        **{char: f"\\{char}" for char in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        MISSING: "--",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
    }
)


def _tex(text: object) -> str:
    """``text`` as LaTeX; a value with its interval in a third of the width."""
    escaped = str(text).translate(_TEX)
    return INTERVAL.sub(r"$\1_{\2}^{\3}$", escaped)
