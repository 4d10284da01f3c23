"""Tables of scores: results, retention, differences, ablations; each a pure function.

They take a prompt, because direct answers and chain of thought are never mixed in one table, and return ``None`` where
there is nothing to show.
"""

import pandas as pd

from fcotvl.evaluate.summary import MEAN
from fcotvl.report.formatting import INTERVALS, cells, headline, metric_words, ordered, percent, questions
from fcotvl.report.report_data import ReportData
from fcotvl.report.table import MISSING, Table, interval, make_table

_SCORES = f"Scores in percent with {INTERVALS}"


def results(report: ReportData, prompt: str) -> Table | None:
    """Systems by benchmarks."""
    data = headline(report.scores, prompt)
    note = f"{_SCORES} ({metric_words(report)}). {questions(report, data)}"
    rows = _by_system(report, data, "score")
    return make_table("results", "Results", note, rows, data, prompt=prompt)


def retained(report: ReportData, prompt: str) -> Table | None:
    """What each system keeps of the teacher's score."""
    data = headline(report.retention, prompt)
    note = (
        f"Score in percent of the teacher's on the same questions, with {INTERVALS}; Mean: of the benchmarks' mean, "
        f"each counting the same. {questions(report, data)}"
    )
    rows = _by_system(report, data, "retention", mean="Mean")
    return make_table("retention", "Retention", note, rows, data, prompt=prompt)


def modules(report: ReportData, prompt: str) -> Table | None:
    """The module ablation: the student after distillation and with each part of post-training."""
    data = headline(report.scores, prompt)
    data = data[data["system"].isin([*report.role("distilled", "sft"), report.student])]
    note = (
        f"Each row is a separate student; the last is the headline. {_SCORES}; paired differences "
        f"have their own table. {questions(report, data)}"
    )
    rows = _by_system(report, data, "score")
    return make_table("modules", "Module ablation", note, rows, data, prompt=prompt)


def _by_system(report: ReportData, data: pd.DataFrame, value: str, *, mean: str = "") -> list[dict[str, str]]:
    """A row for each system; ``mean`` is the title of a column about all benchmarks, if ``data`` has that."""
    tokens, shown = report.systems.set_index("system")["tokens"], dict(report.benchmarks)
    if mean and MEAN in set(data["benchmark"]):
        shown[MEAN] = mean
    return [
        {"System": report.label(system), "Tokens / tile": str(tokens[system])}
        | cells(shown, data[data["system"] == system], value)
        for system in ordered(report, data)
    ]


def differences(report: ReportData, prompt: str) -> Table | None:
    """Paired differences between systems."""
    data = headline(report.differences, prompt)
    rows = [
        {"Difference": " vs ".join(report.label(str(name)) for name in pair)}
        | cells(report.benchmarks, part, "difference", sign="+")
        for pair, part in data.groupby(["system", "baseline"], sort=False)
    ]
    note = (
        f"Percentage points over the same questions, with {INTERVALS}. Where an interval contains "
        "0, it is open which system is better."
    )
    return make_table("differences", "Paired differences", note, rows, data, prompt=prompt)


def grid(report: ReportData, prompt: str) -> Table | None:
    """Compressors by ratios."""
    if report.grid is None:
        return None
    data = report.grid[report.grid["prompt"] == prompt]
    rows = [
        {"Compressor": str(name), "Removed": percent(ratio), "Stage": str(stage), "Seed": str(seed)}
        | cells(report.benchmarks, part, "score")
        for (stage, ratio, name, seed), part in data.groupby(["stage", "ratio", "compressor", "seed"], sort=True)
    ]
    note = (
        "cnn starts as an average of the tokens it merges, cnn-default from PyTorch's default "
        f"initialisation; compare both with the others. {_SCORES}."
    )
    return make_table("ablation", "Compressors and ratios", note, rows, data, prompt=prompt)


def dialects(report: ReportData, prompt: str) -> Table | None:
    """Every metric of the benchmarks."""
    data = report.scores[report.scores["prompt"] == prompt]
    rows: list[dict[str, str]] = []
    for system in ordered(report, data):
        part = data[data["system"] == system]
        rows.append({"System": report.label(system)})
        for name, title in report.benchmarks.items():
            for row in part[part["benchmark"] == name].to_dict("records"):
                column = f"{title}: {row['metric'].replace('_', ' ')}"
                rows[-1][column] = interval(row["score"], row["low"], row["high"])
    columns = dict.fromkeys(column for row in rows for column in row)
    rows = [dict.fromkeys(columns, MISSING) | row for row in rows]
    note = (
        "Published tools score ChartQA differently: relaxed internvl is the metric of InternVL's "
        "tables; relaxed strict allows 5 % of the reference and no deviation for years."
    )
    return make_table("metrics", "All metrics", note, rows, data, prompt=prompt)


def kinds(report: ReportData, prompt: str) -> Table | None:
    """Scores by kind of question."""
    if report.kinds is None:
        return None
    data = headline(report.kinds, prompt)
    rows = [
        {"System": report.label(system), "Question": str(kind)} | cells(report.benchmarks, part, "score")
        for system in ordered(report, data)
        for kind, part in data[data["system"] == system].groupby("kind", sort=True)
    ]
    note = f"extractive: the answer is written in the image; reason: it must be worked out. {_SCORES}."
    return make_table("kinds", "By kind of question", note, rows, data, prompt=prompt)
