"""The numbers of a run for other programs: a few that experiments are compared by (DVC's metrics), and all scores."""

import pandas as pd

from fcotvl.evaluate.summary import MEAN
from fcotvl.report.formatting import headline
from fcotvl.report.report_data import LABELS, TRAINING_FREE, ReportData

Scores = dict[str, dict[str, dict[str, dict[str, float]]]]


def metrics(report: ReportData) -> dict[str, float]:
    """The headline student on one level, so that each is one column of ``dvc exp show``.

    ``docvqa_cot`` is a score in percent, ``docvqa_cot_retention`` its share of the teacher's in percent,
    ``mean_cot_retention`` that of the mean over all benchmarks, ``speedup`` how many times as fast as the teacher a
    whole answer is.
    """
    found = {
        f"{benchmark}_{prompt}{suffix}": values[key]
        for benchmark, prompts in scores(report)[report.student].items()
        for prompt, values in prompts.items()
        for key, suffix in (("score", ""), ("retention", "_retention"))
        if key in values
    }
    kept = report.retention[(report.retention["system"] == report.student) & (report.retention["benchmark"] == MEAN)]
    kept = kept.dropna(subset="retention")  # undefined where the teacher scores 0
    found |= {f"mean_{row['prompt']}_retention": round(row["retention"], 2) for row in kept.to_dict("records")}
    if report.speed is not None:
        students = report.speed["system"].isin(report.role("distilled", "merged"))
        times = report.speed.loc[students & (report.speed["part"] == "total"), "time"]
        if len(times):
            found["speedup"] = round(1 / float(times.iloc[0]), 2)
    return found


def results(report: ReportData) -> pd.DataFrame:
    """For ``dvc plots``: score, low and high in percent by the headline metrics, over the visual tokens of a tile.

    ``series`` is what a line joins: the points of a training-free baseline, or one system alone.
    """
    names = {name: report.label(name) for name in report.systems["system"]}
    names |= {
        row["system"]: LABELS.get(row["role"], row["role"])
        for row in report.systems.to_dict("records")
        if row["role"] in TRAINING_FREE
    }
    rows = pd.concat([headline(report.scores, prompt) for prompt in report.prompts])
    rows = rows[rows["benchmark"].isin(report.benchmarks)].merge(report.systems, on="system")
    rows["series"], rows["benchmark"] = rows["system"].map(names), rows["benchmark"].map(report.benchmarks)
    return rows[["series", "benchmark", "prompt", "tokens", "ratio", "n", "score", "low", "high"]]


def scores(report: ReportData) -> Scores:
    """System -> benchmark -> prompt -> score, low, high, retention, in percent, by the headline metrics."""
    found: Scores = {}
    columns = {"score": report.scores, "low": report.scores, "high": report.scores, "retention": report.retention}
    for prompt in report.prompts:
        for column, table in columns.items():
            rows = headline(table, prompt)
            for row in rows[rows["benchmark"].isin(report.benchmarks)].to_dict("records"):
                if pd.notna(row[column]):  # a retention is undefined where the teacher scores 0
                    of_system = found.setdefault(row["system"], {})
                    values = of_system.setdefault(row["benchmark"], {}).setdefault(prompt, {})
                    values[column] = round(float(row[column]), 2)
    return found
