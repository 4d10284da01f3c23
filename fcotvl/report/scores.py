"""Tables of scores: results, retention, differences, ablations; each a pure function.

They take a prompt, because direct answers and chain of thought are never mixed in one table, and
return ``None`` where there is nothing to show.
"""

from __future__ import annotations

import pandas as pd

from fcotvl.report.formatting import (
    INTERVALS,
    cells,
    headline,
    metric_words,
    ordered,
    percent,
    questions,
    titled,
)
from fcotvl.report.report_data import ReportData
from fcotvl.report.table import MISSING, Table, interval, make_table


def results(report: ReportData, prompt: str) -> Table | None:
    """Systems by benchmarks."""
    data = headline(report.scores, prompt)
    note = f"Scores in percent ({metric_words(report)}) with {INTERVALS}. "
    return make_table(
        f"results-{prompt}",
        titled("Results", prompt),
        note + questions(report, data),
        _by_system(report, data, "score"),
        data,
    )


def retained(report: ReportData, prompt: str) -> Table | None:
    """What each system keeps of the teacher's score."""
    data = headline(report.retention, prompt)
    note = f"Score in percent of the teacher's on the same questions, with {INTERVALS}. "
    return make_table(
        f"retention-{prompt}",
        titled("Retention", prompt),
        note + questions(report, data),
        _by_system(report, data, "retention"),
        data,
    )


def modules(report: ReportData, prompt: str) -> Table | None:
    """The module ablation: the student after distillation and with each part of post-training."""
    data = headline(report.scores, prompt)
    data = data[data["system"].isin([*report.role("distilled", "sft"), report.student])]
    note = (
        f"Each row is a separate student; the last is the headline. Scores in percent with "
        f"{INTERVALS}; paired differences have their own table. "
    )
    return make_table(
        f"modules-{prompt}",
        titled("Module ablation", prompt),
        note + questions(report, data),
        _by_system(report, data, "score"),
        data,
    )


def _by_system(report: ReportData, data: pd.DataFrame, value: str) -> list[dict[str, str]]:
    tokens = report.systems.set_index("system")["tokens"]
    return [
        {"System": report.label(system), "Tokens / tile": str(tokens[system])}
        | cells(report, data[data["system"] == system], value)
        for system in ordered(report, data)
    ]


def differences(report: ReportData, prompt: str) -> Table | None:
    """Paired differences between systems."""
    data = headline(report.differences, prompt)
    rows = [
        {"Difference": " vs ".join(report.label(str(name)) for name in pair)}
        | cells(report, part, "difference", sign="+")
        for pair, part in data.groupby(["system", "baseline"], sort=False)
    ]
    return make_table(
        f"differences-{prompt}",
        titled("Paired differences", prompt),
        f"Percentage points over the same questions, with {INTERVALS}. Where an interval contains "
        "0, it is open which system is better.",
        rows,
        data,
    )


def grid(report: ReportData, prompt: str) -> Table | None:
    """Compressors by ratios."""
    if report.grid is None:
        return None
    data = report.grid[report.grid["prompt"] == prompt]
    keys = ["stage", "ratio", "compressor", "seed"]
    rows = [
        {"Compressor": str(name), "Removed": percent(ratio), "Stage": str(stage), "Seed": str(seed)}
        | cells(report, part, "score")
        for (stage, ratio, name, seed), part in data.groupby(keys, sort=True)
    ]
    return make_table(
        f"ablation-{prompt}",
        titled("Compressors and ratios", prompt),
        "cnn starts as an average of the tokens it merges, cnn-default from PyTorch's default "
        f"initialisation; compare both with the others. Scores in percent with {INTERVALS}.",
        rows,
        data,
    )


def dialects(report: ReportData, prompt: str) -> Table | None:
    """Every metric of the benchmarks."""
    data = report.scores[report.scores["prompt"] == prompt]
    rows = [
        {"System": report.label(system)}
        | {
            f"{title}: {row['metric'].replace('_', ' ')}": interval(
                row["score"], row["low"], row["high"]
            )
            for name, title in report.benchmarks.items()
            for row in part[part["benchmark"] == name].to_dict("records")
        }
        for system in ordered(report, data)
        for part in [data[data["system"] == system]]
    ]
    return make_table(
        f"metrics-{prompt}",
        titled("All metrics", prompt),
        "Published tools score ChartQA differently: relaxed internvl is the metric of InternVL's "
        "tables; relaxed strict allows 5 % of the reference and no deviation for years.",
        pd.DataFrame(rows).fillna(MISSING).to_dict("records"),
        data,
    )


def kinds(report: ReportData, prompt: str) -> Table | None:
    """Scores by kind of question."""
    if report.kinds is None:
        return None
    data = headline(report.kinds, prompt)
    rows = [
        {"System": report.label(system), "Question": str(kind)} | cells(report, part, "score")
        for system in ordered(report, data)
        for kind, part in data[data["system"] == system].groupby("kind", sort=True)
    ]
    return make_table(
        f"kinds-{prompt}",
        titled("By kind of question", prompt),
        "extractive: the answer is written in the image; reason: it must be worked out. Scores in "
        f"percent with {INTERVALS}.",
        rows,
        data,
    )
