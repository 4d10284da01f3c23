"""The numbers that experiments are compared by."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fcotvl.report.formatting import headline
from fcotvl.report.report_data import Inputs


def metrics(inputs: Inputs) -> dict[str, Any]:
    """The headline student's: benchmark -> prompt -> score, low, high, retention, in percent."""
    return {
        benchmark: {
            prompt: _measures(inputs, benchmark, prompt)
            for prompt in inputs.prompts
            if _measures(inputs, benchmark, prompt)
        }
        for benchmark in inputs.benchmarks
    }


def _measures(inputs: Inputs, benchmark: str, prompt: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for table, value in ((inputs.scores, "score"), (inputs.retention, "retention")):
        data = headline(table, prompt)
        data = data[(data["system"] == inputs.student) & (data["benchmark"] == benchmark)]
        for row in data.to_dict("records"):
            names = {"score": ("score", "low", "high")}.get(value, (value,))
            # A retention of a teacher that scores nothing is undefined, and NaN is not JSON.
            known = [name for name in names if pd.notna(row[name])]
            found |= {name: round(float(row[name]), 2) for name in known}
    return found
