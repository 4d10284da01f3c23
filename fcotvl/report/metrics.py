"""The numbers that experiments are compared by (DVC's metrics)."""

import pandas as pd

from fcotvl.report.formatting import headline
from fcotvl.report.report_data import ReportData


def metrics(report: ReportData) -> dict[str, dict[str, dict[str, float]]]:
    """The headline student's: benchmark -> prompt -> score, low, high, retention, in percent."""
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in report.benchmarks}
    columns = {"score": report.scores, "low": report.scores, "high": report.scores}
    for prompt in report.prompts:
        for column, table in (columns | {"retention": report.retention}).items():
            rows = headline(table, prompt)
            rows = rows[(rows["system"] == report.student) & rows["benchmark"].isin(found)]
            for name, value in zip(rows["benchmark"], rows[column], strict=True):
                if pd.notna(value):  # a retention is undefined where the teacher scores 0
                    found[name].setdefault(prompt, {})[column] = round(float(value), 2)
    return found
