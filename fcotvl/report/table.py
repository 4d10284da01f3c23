"""A table, and its Markdown, CSV and LaTeX."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

MISSING = "\N{EN DASH}"
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
    latex = table.shown.map(_tex).rename(columns=_tex)
    return {
        "md": f"**{_escape(table.title)}.** {_escape(table.note)}\n\n{_markdown(table.shown)}\n",
        "csv": table.data.to_csv(index=False, float_format="%.6g", lineterminator="\n"),
        "tex": latex.style.hide(axis="index").to_latex(
            hrules=True,
            caption=f"{_tex(table.title)}. {_tex(table.note)}",
            label=f"tab:{table.name}",
            column_format="l" + "r" * (len(latex.columns) - 1),
            position_float="centering",
        ),
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
    return str(text).translate(_TEX)
