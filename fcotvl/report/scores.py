"""Tables of scores: results, retention, differences, ablations; each a pure function of the inputs.

They take a prompt, because direct answers and chain of thought are never mixed in one table, and
return nothing where there is nothing to show.
"""

from __future__ import annotations

from typing import Any

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
from fcotvl.report.report_data import Inputs
from fcotvl.report.table import MISSING, Table, interval


def results(inputs: Inputs, prompt: str) -> Table | None:
    """Systems by benchmarks, under one prompt."""
    data = headline(inputs.scores, prompt)
    note = f"Scores in percent ({metric_words(inputs)}) with {INTERVALS}."
    return _by_system(inputs, data, "score", f"results-{prompt}", (titled("Results", prompt), note))


def retained(inputs: Inputs, prompt: str) -> Table | None:
    """What each system keeps of the teacher's score."""
    data = headline(inputs.retention, prompt)
    title = titled("Retention", prompt)
    note = f"Score in percent of the teacher's on the same questions, with {INTERVALS}."
    return _by_system(inputs, data, "retention", f"retention-{prompt}", (title, note))


def modules(inputs: Inputs, prompt: str) -> Table | None:
    """The module ablation: the student after distillation and with each part of post-training."""
    names = [*inputs.role("distilled", "sft"), inputs.student]
    data = headline(inputs.scores, prompt)
    data = data[data["system"].isin(names)]
    title = titled("Module ablation", prompt)
    note = (
        f"Each row is a student of its own; the last is the headline. Scores in percent with "
        f"{INTERVALS}; paired differences are in their own table."
    )
    return _by_system(inputs, data, "score", f"modules-{prompt}", (title, note))


def differences(inputs: Inputs, prompt: str) -> Table | None:
    """Paired differences between systems."""
    data = headline(inputs.differences, prompt)
    if data.empty:
        return None
    pairs = list(dict.fromkeys(zip(data["system"], data["baseline"], strict=True)))
    rows = []
    for one, other in pairs:
        part = data[(data["system"] == one) & (data["baseline"] == other)]
        label = f"{inputs.label(one)} vs {inputs.label(other)}"
        rows.append({"Difference": label} | cells(inputs, part, "difference", sign="+"))
    return Table(
        f"differences-{prompt}",
        titled("Paired differences", prompt),
        f"Percentage points over the same questions, with {INTERVALS}. An interval that holds 0 "
        "leaves open which system is better.",
        pd.DataFrame(rows),
        data,
    )


def grid(inputs: Inputs, prompt: str) -> Table | None:
    """Compressors by ratios."""
    if inputs.grid is None or (data := inputs.grid[inputs.grid["prompt"] == prompt]).empty:
        return None
    keys = ["stage", "ratio", "compressor", "seed"]
    rows = []
    for values, part in data.groupby(keys, sort=True):
        stage, ratio, compressor, seed = values
        head = {"Compressor": compressor, "Removed": percent(ratio), "Stage": stage, "Seed": seed}
        rows.append(head | cells(inputs, part, "score"))
    return Table(
        f"ablation-{prompt}",
        titled("Compressors and ratios", prompt),
        "cnn starts as an average over the tokens it merges, cnn-default from PyTorch's own start: "
        f"compare both with the others. Scores in percent with {INTERVALS}.",
        pd.DataFrame(rows).astype(str),
        data,
    )


def dialects(inputs: Inputs, prompt: str) -> Table | None:
    """Every metric of the benchmarks that report more than their headline."""
    data = inputs.scores[inputs.scores["prompt"] == prompt]
    rows = []
    for name in ordered(inputs, data):
        for benchmark, title in inputs.benchmarks.items():
            part = data[(data["system"] == name) & (data["benchmark"] == benchmark)]
            rows += [
                {
                    "System": inputs.label(name),
                    "Metric": f"{title}: {row['metric'].replace('_', ' ')}",
                    "Score": interval(row["score"], row["low"], row["high"]),
                }
                for row in part.to_dict("records")
            ]
    if not rows:
        return None
    shown = pd.DataFrame(rows).pivot_table(
        index="System", columns="Metric", values="Score", aggfunc="first", sort=False
    )
    return Table(
        f"metrics-{prompt}",
        titled("All metrics", prompt),
        "Published tools score ChartQA differently: relaxed internvl is the one of InternVL's "
        "tables, strict takes 5 % of the reference and years exactly.",
        shown.fillna(MISSING).reset_index().rename_axis(columns=None),
        data,
    )


def kinds(inputs: Inputs, prompt: str) -> Table | None:
    """Scores by what a question asks for."""
    if inputs.kinds is None:
        return None
    data = headline(inputs.kinds, prompt)
    rows = []
    for name in ordered(inputs, data):
        for kind, part in data[data["system"] == name].groupby("kind", sort=True):
            head = {"System": inputs.label(name), "Question": str(kind)}
            rows.append(head | cells(inputs, part, "score"))
    if not rows:
        return None
    return Table(
        f"kinds-{prompt}",
        titled("By kind of question", prompt),
        "extractive: the answer is written in the image; reason: it must be worked out. With "
        f"{INTERVALS}.",
        pd.DataFrame(rows),
        data,
    )


def _by_system(
    inputs: Inputs, data: pd.DataFrame, value: str, name: str, words: tuple[str, str]
) -> Table | None:
    tokens = inputs.systems.set_index("system")["tokens"]
    rows: list[dict[str, Any]] = [
        {"System": inputs.label(system), "Tokens / tile": str(tokens[system])}
        | cells(inputs, data[data["system"] == system], value)
        for system in ordered(inputs, data)
    ]
    if not rows:
        return None
    title, note = words
    note += f" Questions: {questions(inputs, data)}."
    return Table(name, title, note, pd.DataFrame(rows), data)
