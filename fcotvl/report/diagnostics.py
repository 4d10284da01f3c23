"""Tables of everything but scores: merging, speed, curation and rejection sampling."""

from __future__ import annotations

import pandas as pd

from fcotvl.report.formatting import INTERVALS, cells, headline, percent, titled
from fcotvl.report.report_data import Inputs
from fcotvl.report.table import Table, interval, number


def rules(inputs: Inputs, prompt: str) -> Table | None:
    """Merge rules beside each other, under one prompt."""
    if inputs.rules is None or inputs.rules.empty:
        return None
    data = headline(inputs.scores, prompt)
    rows, tidy = [], []
    for rule in inputs.rules.to_dict("records"):
        scored = data[data["system"] == rule["system"]]
        head = {"Rule": rule["rule"], "Validation utility": number(rule["utility"])}
        rows.append(head | cells(inputs, scored, "score"))
        tidy.append(scored.assign(rule=rule["rule"], utility=rule["utility"]))
    return Table(
        f"merge-{prompt}",
        titled("Merge rules", prompt),
        "The same checkpoints, weighed by Shapley values, uniformly, by a greedy soup, or the best "
        "one alone. Utility: share of validation questions answered rightly, in percent (the one "
        "that weights were chosen on, so no estimate of quality).",
        pd.DataFrame(rows),
        pd.concat(tidy, ignore_index=True),
    )


def shapley(inputs: Inputs) -> Table | None:
    """What each checkpoint is worth, and weighs."""
    if inputs.shapley is None or inputs.shapley.empty:
        return None
    weights = [str(name) for name in inputs.shapley if str(name).startswith("weight_")]
    rows = [
        {
            "Checkpoint": row["checkpoint"],
            "Shapley value": interval(row["value"], row["low"], row["high"], digits=2, sign="+"),
        }
        | {f"Weight, {name.removeprefix('weight_')}": number(row[name], 3) for name in weights}
        for row in inputs.shapley.to_dict("records")
    ]
    return Table(
        "shapley",
        "Shapley values of the checkpoints",
        "Points of validation utility that a checkpoint adds on average to a merge of others, with "
        f"{INTERVALS}. {_gap_note(inputs.gaps)}",
        pd.DataFrame(rows),
        inputs.shapley,
    )


def speed(inputs: Inputs) -> Table | None:
    """Measured time and counted operations as ratios to the teacher."""
    if inputs.speed is None or inputs.speed.empty:
        return None
    rows = [
        {
            "System": inputs.label(row["system"]),
            "Part": row["part"],
            "Time / teacher": interval(row["time"], row["low"], row["high"], digits=2),
            "Speed-up": f"{1 / row['time']:.2f}x",
            "FLOPs / teacher": number(row["flops"], 2),
            "Turns": str(row["pairs"]),
        }
        for row in inputs.speed.to_dict("records")
    ]
    return Table(
        "speed",
        "Speed",
        "Time as a ratio to the teacher in the same run: the median of interleaved turns with the "
        "least and the greatest (of 7 turns, these enclose the true median with 98 % confidence), "
        "and the ratio that counting floating-point operations predicts."
        f"{_budget_note(inputs.speed)}",
        pd.DataFrame(rows),
        inputs.speed,
    )


def composition(inputs: Inputs) -> Table | None:
    """What the corpus and the benchmarks are made of."""
    if inputs.audit is None:
        return None
    rows = [
        {"split": split, "source": source}
        | {
            key: account[key]
            for key in ("read", "kept", "duplicates", "contaminated", "quarantined")
        }
        | {"asked_share": account["share_asked"], "kept_share": account["share_kept"]}
        for group in ("corpus", "benchmarks")
        for split, found in inputs.audit[group].items()
        for source, account in found["sources"].items()
    ]
    data = pd.DataFrame(rows)
    shown = data.drop(columns=["asked_share", "kept_share"]).astype(str)
    shown["share of mix"] = [percent(share) for share in data["kept_share"]]
    return Table(
        "audit",
        "Curation audit",
        "Images of each source: read = kept + duplicates + contaminated (seen in a benchmark) + "
        "quarantined (damaged or out of format).",
        shown.rename(columns=str.capitalize),
        data,
    )


def acceptance(inputs: Inputs) -> Table | None:
    """What rejection sampling kept."""
    if inputs.acceptance is None or inputs.acceptance.empty:
        return None
    shown = inputs.acceptance.map(lambda v: f"{v:.3g}" if isinstance(v, float) else str(v))
    return Table(
        "acceptance",
        "Rejection sampling of rationales",
        "Rationales that the teacher sampled, and those that were kept because they end in the "
        "right answer, are not repeated and are within the cap.",
        shown.rename(columns=lambda name: str(name).replace("_", " ").capitalize()),
        inputs.acceptance,
    )


def _budget_note(speed: pd.DataFrame) -> str:
    """What the student removed of these very images: a mean budget is not met by each batch."""
    if "removed" not in speed:
        return ""
    student = speed.iloc[0]
    return (
        f" The images were {student['tiles']} tiles, of whose visual tokens the student's prompts "
        f"had {number(100 * student['removed'])} % less than the teacher's."
    )


def _gap_note(gaps: pd.DataFrame | None) -> str:
    if gaps is None or gaps.empty:
        return ""
    noise = ((gaps["low"] <= 0) & (gaps["high"] >= 0)).sum()
    return (
        f"Of {len(gaps)} gaps between two checkpoints, {noise} cannot be told from 0 with these "
        "questions."
    )
