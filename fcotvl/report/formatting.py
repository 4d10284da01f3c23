"""Rows and cells that several tables share."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fcotvl.report.report_data import ROLES, Inputs
from fcotvl.report.table import MISSING, count, interval

INTERVALS = "95 % bootstrap intervals over images"
PROMPTS = {"direct": "Direct answers", "cot": "Chain of thought"}


def titled(name: str, prompt: str) -> str:
    """The title of a table about one prompt."""
    return f"{name}. {PROMPTS.get(prompt, prompt)}"


def headline(table: pd.DataFrame, prompt: str) -> pd.DataFrame:
    """The rows of ``prompt`` that are about a benchmark's headline metric."""
    return table[table["headline"].astype(bool) & (table["prompt"] == prompt)]


def ordered(inputs: Inputs, data: pd.DataFrame) -> list[str]:
    """The systems of ``data`` in the order of their roles, of each role in the order given."""
    present = set(data["system"])
    return [name for name in inputs.role(*ROLES) if name in present]


def cells(inputs: Inputs, part: pd.DataFrame, value: str, sign: str = "") -> dict[str, str]:
    """One cell a benchmark: value and interval, or a dash."""
    found = {
        row["benchmark"]: interval(row[value], row["low"], row["high"], sign=sign)
        for row in part.to_dict("records")
    }
    return {title: found.get(name, MISSING) for name, title in inputs.benchmarks.items()}


def questions(inputs: Inputs, data: pd.DataFrame) -> str:
    """How many questions of each benchmark ``data`` is about, in words."""
    counts = {name: data.loc[data["benchmark"] == name, "n"].tolist() for name in inputs.benchmarks}
    return ", ".join(
        f"{inputs.benchmarks[name]} {count(found)}" for name, found in counts.items() if found
    )


def metric_words(inputs: Inputs) -> str:
    """What is reported of each benchmark, in words."""
    return ", ".join(
        f"{inputs.benchmarks[name]}: {words}" for name, words in inputs.metrics.items()
    )


def percent(share: Any) -> str:
    """``0.5`` as ``50 %``."""
    return f"{100 * share:g} %"
