"""What the paper claims, and whether this run shows the same; the numbers alone decide.

A part of a claim ``holds`` or ``does not hold`` where the whole 95 % interval lies on that side of
the criterion, and is ``undecided`` where the interval holds both. A claim fails with any of its
parts, and holds only with all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fcotvl.report.formatting import headline
from fcotvl.report.report_data import Inputs
from fcotvl.report.table import interval

Row = dict[Hashable, Any]

HOLDS, FAILS, UNDECIDED, UNTESTED = "holds", "does not hold", "undecided", "not tested"

RETAINED = 95.0
"""Percent of the teacher's score from which on a loss counts as small: our reading."""
SPEED_UP = 1.5
"""The lower end of the speed-ups that the paper reports."""
PROMPT = "direct"
"""The prompt of the published benchmarks, so the one that claims are judged by."""


@dataclass(frozen=True)
class Evidence:
    """One number behind a verdict."""

    what: str
    found: str
    verdict: str


@dataclass(frozen=True)
class Claim:
    """A claim of the paper beside what this run shows."""

    title: str
    paper: str
    """What the paper says, with its numbers where they are known."""
    criterion: str
    """When we say that it holds."""
    evidence: tuple[Evidence, ...]
    remedy: str
    """How to test it, where there is no evidence."""

    @property
    def verdict(self) -> str:
        """Of all parts together."""
        found = {item.verdict for item in self.evidence}
        for verdict in (FAILS, UNDECIDED, HOLDS):
            if verdict in found:
                return verdict
        return UNTESTED


def claims(inputs: Inputs) -> list[Claim]:
    """Every claim that this project can test, with its verdict."""
    made: list[Callable[[Inputs], Claim]] = [
        cnn_beats_qformer,
        loss_is_small,
        is_faster,
        post_training_wins_back,
        beats_training_free,
        merging_helps,
    ]
    return [make(inputs) for make in made]


def cnn_beats_qformer(inputs: Inputs) -> Claim:
    """Table 3: a convolution compresses better than a Q-Former."""
    evidence: tuple[Evidence, ...] = ()
    table = inputs.grid_differences
    if table is not None:
        chosen = table["compressor"].isin(["cnn", "cnn-default"]) & (table["baseline"] == "qformer")
        rows = table[chosen & (table["prompt"] == PROMPT) & (table["benchmark"] == "chartqa")]
        where = ("compressor", "ratio", "stage", "seed")
        evidence = tuple(
            _difference(row, ", ".join(f"{key} {row[key]}" for key in where))
            for row in rows.to_dict("records")
        )
    return Claim(
        "A CNN compresses better than a Q-Former",
        "ChartQA 75.04 with the CNN and 42.32 with the Q-Former (table 3).",
        "The CNN scores higher on ChartQA at every ratio, whichever way it starts (an average of "
        "the tokens it merges, or PyTorch's default start).",
        evidence,
        "Run the ablation grid: snakemake --cores 2 ablation.",
    )


def loss_is_small(inputs: Inputs) -> Claim:
    """Little is lost at the ratio of this run."""
    removed = _ratio(inputs, inputs.student)
    data = headline(inputs.retention, PROMPT)
    return Claim(
        f"The loss is small with {100 * removed:g} % of the visual tokens removed",
        "50 % and 75 % of the visual tokens can be removed at a small loss; InfoVQA drops at 75 %.",
        f"The post-trained student keeps at least {RETAINED:g} % of the teacher's score on every "
        "benchmark (the threshold is ours).",
        tuple(
            Evidence(
                _title(inputs, row),
                _kept(row),
                _side(row["low"], row["high"], RETAINED),
            )
            for row in _of(data, inputs.student)
        ),
        "Run the chain to the merged student.",
    )


def is_faster(inputs: Inputs) -> Claim:
    """The compressed model answers faster."""
    rows = [] if inputs.speed is None else _of(inputs.speed, *inputs.role("distilled", "merged"))
    whole = [row for row in rows if row["part"] == "total"] or rows
    return Claim(
        "The compressed model is faster",
        "1.5 to 2.4 times as fast as the uncompressed model.",
        f"At least {SPEED_UP:g} times as fast as the teacher in the same run, in wall-clock time.",
        tuple(
            Evidence(
                f"{row['part']}, {100 * _ratio(inputs, row['system']):g} % removed",
                f"{interval(1 / row['time'], 1 / row['high'], 1 / row['low'], digits=2)} times; "
                f"{1 / row['flops']:.2f} times fewer operations",
                _side(1 / row["high"], 1 / row["low"], SPEED_UP),
            )
            for row in whole
        ),
        "Run the speed stage.",
    )


def post_training_wins_back(inputs: Inputs) -> Claim:
    """Fine-tuning after distillation recovers accuracy."""
    pairs = [(inputs.student, name) for name in inputs.role("distilled")]
    return Claim(
        "Post-training wins accuracy back",
        "Fine-tuning with chain-of-thought data, resampling and merging recovers what compression "
        "lost.",
        "The post-trained student scores higher than the distilled one on every benchmark.",
        _differences(inputs, pairs),
        "Run the chain to the merged student.",
    )


def beats_training_free(inputs: Inputs) -> Claim:
    """Training pays against FastV."""
    ratio = _ratio(inputs, inputs.student)
    rivals = [name for name in inputs.role("fastv") if _ratio(inputs, name) == ratio]
    return Claim(
        "Learned compression beats training-free pruning",
        "The paper compares with FastV; its numbers for it are not known to us.",
        "The post-trained student scores higher than FastV at the same ratio on every benchmark.",
        _differences(inputs, [(inputs.student, name) for name in rivals]),
        "Name the student's ratio under baselines.ratios.",
    )


def merging_helps(inputs: Inputs) -> Claim:
    """A merge of checkpoints is better than the last of them."""
    rules = [] if inputs.rules is None else inputs.rules["system"].tolist()
    rivals = dict.fromkeys([*inputs.role("sft", "merged"), *rules, inputs.student])
    is_merged = inputs.student in inputs.role("merged")
    return Claim(
        "Merging checkpoints by Shapley values helps",
        "Checkpoints are merged with weights from Shapley values.",
        "The merged student scores higher than the checkpoints and soups it is compared with, on "
        "every benchmark.",
        _differences(
            inputs,
            [(inputs.student, name) for name in rivals if is_merged and name != inputs.student],
        ),
        "Run the chain to the merged student.",
    )


def _differences(inputs: Inputs, pairs: Iterable[tuple[str, str]]) -> tuple[Evidence, ...]:
    data = headline(inputs.differences, PROMPT)
    return tuple(
        _difference(row, f"{_title(inputs, row)}, against: {inputs.label(other)}")
        for one, other in pairs
        for row in _of(data[data["baseline"] == other], one)
    )


def _difference(row: Row, what: str) -> Evidence:
    found = interval(row["difference"], row["low"], row["high"], sign="+")
    return Evidence(what, f"{found} points, n = {row['n']}", _side(row["low"], row["high"], 0.0))


def _kept(row: Row) -> str:
    if math.isnan(row["retention"]):
        return "the teacher scores 0"
    return f"{interval(row['retention'], row['low'], row['high'])} % of the teacher's score"


def _side(low: float, high: float, criterion: float) -> str:
    if low >= criterion and high > criterion:
        return HOLDS
    return FAILS if high < criterion or low == high == criterion else UNDECIDED


def _of(table: pd.DataFrame, *systems: str) -> list[Row]:
    return table[table["system"].isin(systems)].to_dict("records")


def _ratio(inputs: Inputs, name: object) -> float:
    return float(inputs.systems.set_index("system")["ratio"][str(name)])


def _title(inputs: Inputs, row: Row) -> str:
    return inputs.benchmarks[str(row["benchmark"])]
