"""Rows, cells and phrases that several tables share."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from fcotvl.report.report_data import ROLES, ReportData
from fcotvl.report.table import MISSING, count, interval

INTERVALS = "95 % bootstrap intervals over images"


def headline(table: pd.DataFrame, prompt: str) -> pd.DataFrame:
    """The rows of ``prompt`` that are about a benchmark's headline metric."""
    return table[table["headline"].astype(bool) & (table["prompt"] == prompt)]


def ordered(report: ReportData, table: pd.DataFrame) -> list[str]:
    """The systems of ``table`` in the order of their roles, within a role in the order given."""
    present = set(table["system"])
    return [name for name in report.role(*ROLES) if name in present]


def cells(benchmarks: Mapping[str, str], rows: pd.DataFrame, value: str, sign: str = "") -> dict[str, str]:
    """One cell per benchmark, under its title: value and interval, or a dash."""
    texts = {
        row["benchmark"]: interval(row[value], row["low"], row["high"], sign=sign) for row in rows.to_dict("records")
    }
    return {title: texts.get(name, MISSING) for name, title in benchmarks.items()}


def questions(report: ReportData, table: pd.DataFrame) -> str:
    """A sentence on how many questions of each benchmark ``table`` is about."""
    counts = table.groupby("benchmark")["n"].agg(list)
    asked = [(name, title) for name, title in report.benchmarks.items() if name in counts]
    return f"Questions: {', '.join(f'{title} {count(counts[name])}' for name, title in asked)}."


def metric_words(report: ReportData) -> str:
    """What is reported of each benchmark, in words."""
    return ", ".join(f"{report.benchmarks[name]}: {text}" for name, text in report.metrics.items())


def percent(share: Any) -> str:
    """``0.5`` as ``50 %``, ``0.875`` as ``87.5 %``."""
    return f"{100 * share:.3g} %"
