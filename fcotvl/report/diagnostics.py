"""Tables of everything but scores: merging, speed, curation, rejection sampling, lm-eval."""

from typing import Any, cast

import pandas as pd

from fcotvl.report.formatting import INTERVALS, cells, headline, percent
from fcotvl.report.report_data import METHODS, ReportData
from fcotvl.report.table import Table, interval, make_table, number

_COUNTS = ("read", "kept", "duplicates", "contaminated", "quarantined")


def methods(report: ReportData, prompt: str) -> Table | None:
    """Merge methods beside each other, under one prompt."""
    scores = headline(report.scores, prompt)
    rows, data = [], []
    for method in _records(report.methods):
        scored = scores[scores["system"] == method["system"]]
        utility = number(method["utility"])
        row = {"Method": METHODS.get(method["method"], method["method"]), "Validation utility": utility}
        rows.append(row | cells(report.benchmarks, scored, "score"))
        data.append(scored.assign(method=method["method"], utility=method["utility"]))
    note = (
        "The same checkpoints weighted by Shapley values, uniformly or by a greedy soup, and the "
        "best one alone. Utility: percent of validation questions answered correctly; the weights "
        "were chosen on these questions, so it does not estimate quality."
    )
    tidy = pd.concat(data, ignore_index=True) if data else None
    return make_table("merge", "Merge methods", note, rows, tidy, prompt=prompt)


def shapley(report: ReportData) -> Table | None:
    """What each checkpoint contributes, and its weight by each method."""
    rows = [
        {
            "Checkpoint": row["checkpoint"],
            "Shapley value": interval(row["value"], row["low"], row["high"], digits=2, sign="+"),
        }
        | {
            f"Weight, {name.removeprefix('weight_')}": number(value, 3)
            for name, value in row.items()
            if name.startswith("weight_")
        }
        for row in _records(report.shapley)
    ]
    note = f"Points of validation utility that a checkpoint adds on average to a merge of others, with {INTERVALS}."
    if gaps := _records(report.gaps):
        noise = sum(gap["low"] <= 0 <= gap["high"] for gap in gaps)
        note += (
            f" Of {len(gaps)} differences between two checkpoints, {noise} cannot be told from 0 with these questions."
        )
    return make_table("shapley", "Shapley values of the checkpoints", note, rows, report.shapley)


def speed(report: ReportData) -> Table | None:
    """Measured time and counted operations as ratios to the teacher."""
    records = _records(report.speed)
    rows = [
        {
            "System": report.label(row["system"]),
            "Part": row["part"],
            "Time / teacher": interval(row["time"], row["low"], row["high"], digits=2),
            "Speed-up": f"{1 / row['time']:.2f}x",
            "FLOPs / teacher": number(row["flops"], 2),
            "Rounds": str(row["pairs"]),
        }
        for row in records
    ]
    note = (
        "Time as a ratio to the teacher in the same run: the median of interleaved rounds with the "
        "least and the greatest (of 7 rounds, these enclose the true median with 98 % confidence), "
        "beside the ratio that counting floating-point operations predicts."
    )
    if records and "removed" in records[0]:  # a batch need not meet a mean budget
        removed = number(100 * records[0]["removed"])
        note += (
            f" The images have {records[0]['tiles']} tiles; the student's prompts have {removed} % "
            "fewer visual tokens than the teacher's."
        )
    return make_table("speed", "Speed", note, rows, report.speed)


def composition(report: ReportData) -> Table | None:
    """What the corpus and the benchmarks are made of."""
    audit = report.audit or {"corpus": {}, "benchmarks": {}}
    data = [
        {"split": split, "source": source}
        | {name: summary[name] for name in _COUNTS}
        | {"asked_share": summary["share_asked"], "kept_share": summary["share_kept"]}
        for group in ("corpus", "benchmarks")
        for split, found in audit[group].items()
        for source, summary in found["sources"].items()
    ]
    rows = [
        {name.capitalize(): str(row[name]) for name in ("split", "source", *_COUNTS)}
        | {"Share of mix": percent(row["kept_share"])}
        for row in data
    ]
    note = (
        "Images of each source: read = kept + duplicates + contaminated (also in a benchmark) + "
        "quarantined (damaged or malformed)."
    )
    return make_table("audit", "Curation audit", note, rows, pd.DataFrame(data))


def acceptance(report: ReportData) -> Table | None:
    """What rejection sampling kept."""
    rows = [
        {
            name.replace("_", " ").capitalize(): f"{cell:.3g}" if type(cell) is float else str(cell)
            for name, cell in row.items()
        }
        for row in _records(report.acceptance)
    ]
    note = (
        "Rationales that the teacher sampled, and those kept: they end in the correct answer, are "
        "distinct, and do not exceed the number allowed per question."
    )
    title = "Rejection sampling of rationales"
    return make_table("acceptance", title, note, rows, report.acceptance)


def harness(report: ReportData) -> Table | None:
    """How many replies and scores lm-evaluation-harness finds equal to the chain's."""
    rows: dict[str, dict[str, str]] = {}
    for row in _records(report.harness):
        cells = rows.setdefault(row["system"], {"System": report.label(row["system"])})
        cells[f"Equal {row['what']}"] = f"{row['equal']:,} of {row['total']:,}"
    note = (
        "Every question of the benchmarks was asked again by lm-evaluation-harness, under direct answers, with the "
        "tasks fcotvl_*. Counted are the raw replies that are equal to those behind this report, letter by letter, "
        "and the scores of all metrics."
    )
    return make_table("harness", "Asked again by lm-evaluation-harness", note, [*rows.values()], report.harness)


def _records(table: pd.DataFrame | None) -> list[dict[str, Any]]:
    return [] if table is None else cast("list[dict[str, Any]]", table.to_dict("records"))
