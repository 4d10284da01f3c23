"""What the paper claims, and whether this run shows the same; the numbers alone decide.

Each piece of evidence ``holds`` or ``does not hold`` where its whole 95 % interval lies on that side of the criterion,
and is ``undecided`` where the interval contains the criterion. A claim fails with any of its evidence, and holds only
with all of it. It is judged under one prompt at a time: the same claim can hold for one and fail for another.
"""

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from fcotvl.report.formatting import headline
from fcotvl.report.report_data import ReportData
from fcotvl.report.table import interval

Row = dict[Hashable, Any]

HOLDS, FAILS, UNDECIDED, UNTESTED = "holds", "does not hold", "undecided", "not tested"

RETAINED = 95.0
"""Percent of the teacher's score from which on a loss counts as small: our reading."""
SPEED_UP = 1.5
"""The lower end of the speed-ups that the paper reports."""
DIRECT = "direct"
"""The prompt of the published benchmarks, so the one that is judged first."""
_RUN_THE_CHAIN = "Run the chain to the merged student."


@dataclass(frozen=True)
class Evidence:
    """One number behind a verdict."""

    subject: str
    result: str
    verdict: str
    counts: bool = True
    """False where it stands beside the others and is no part of the claim's verdict."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """What ``result`` says, by name."""


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
    prompt: str = ""
    """The prompt that it is judged under; empty where the answers play no part."""
    table: str = ""
    """Stem of the table that has its numbers."""

    @property
    def verdict(self) -> str:
        """Of all evidence that counts together."""
        found = {item.verdict for item in self.evidence if item.counts}
        return next((v for v in (FAILS, UNDECIDED, HOLDS) if v in found), UNTESTED)


def claims(report: ReportData, prompt: str = DIRECT) -> list[Claim]:
    """Every claim that this project can test, with its verdict under ``prompt``."""
    return [
        cnn_beats_qformer(report, prompt),
        loss_is_small(report, prompt),
        is_faster(report),
        post_training_recovers(report, prompt),
        beats_training_free(report, prompt),
        merging_helps(report, prompt),
    ]


def cnn_beats_qformer(report: ReportData, prompt: str = DIRECT) -> Claim:
    """Table 3: a convolution compresses better than a Q-Former."""
    rows: list[Row] = []
    if (table := report.grid_differences) is not None:
        chosen = table["compressor"].isin(["cnn", "cnn-default"]) & (table["baseline"] == "qformer")
        chosen &= (table["prompt"] == prompt) & (table["benchmark"] == "chartqa")
        rows = table[chosen].to_dict("records")
    keys = ("compressor", "ratio", "stage", "seed")
    return Claim(
        "A CNN compresses better than a Q-Former",
        "ChartQA: 75.04 with the CNN, 42.32 with the Q-Former (table 3).",
        "The CNN scores higher on ChartQA at every ratio with either initialisation (an average of "
        "the tokens it merges, or PyTorch's default).",
        tuple(_difference(row, ", ".join(f"{key} {row[key]}" for key in keys)) for row in rows),
        "Run the ablation grid: snakemake ablation. It writes a page of its own, reports/ablation/index.html.",
        prompt,
    )


def loss_is_small(report: ReportData, prompt: str = DIRECT) -> Claim:
    """Little is lost at the ratio of this run."""
    return Claim(
        f"The loss is small with {100 * _ratio(report, report.student):g} % of the visual tokens removed",
        "50 % and 75 % of the visual tokens can be removed at a small loss; InfoVQA drops at 75 %.",
        f"The post-trained student keeps at least {RETAINED:g} % of the teacher's score on every "
        "benchmark (the threshold is ours).",
        tuple(
            Evidence(report.benchmarks[row["benchmark"]], _retained(row), verdict(row["low"], row["high"], RETAINED))
            for row in _of(headline(report.retention, prompt), report.student)
            if row["benchmark"] in report.benchmarks
        ),
        _RUN_THE_CHAIN,
        prompt,
    )


def is_faster(report: ReportData) -> Claim:
    """The compressed model answers faster."""
    students = report.role("distilled", "merged")
    rows = [] if report.speed is None else _of(report.speed, *students)
    return Claim(
        "The compressed model is faster",
        "1.5 to 2.4 times as fast as the uncompressed model.",
        f"At least {SPEED_UP:g} times as fast as the teacher in the same run, in wall-clock time.",
        tuple(
            Evidence(
                f"{row['part']}, {100 * _ratio(report, row['system']):g} % removed",
                f"{interval(1 / row['time'], 1 / row['high'], 1 / row['low'], digits=2)} times; "
                f"{1 / row['flops']:.2f} times fewer operations",
                verdict(1 / row["high"], 1 / row["low"], SPEED_UP),
            )
            for row in [row for row in rows if row["part"] == "total"] or rows
        ),
        "Run the speed stage.",
    )


def post_training_recovers(report: ReportData, prompt: str = DIRECT) -> Claim:
    """Fine-tuning after distillation recovers accuracy."""
    return Claim(
        "Post-training recovers accuracy",
        "Fine-tuning with chain-of-thought data, resampling and merging recovers what compression lost.",
        "The post-trained student scores higher than the distilled one on every benchmark.",
        _beats(report, report.role("distilled"), prompt),
        _RUN_THE_CHAIN,
        prompt,
    )


def beats_training_free(report: ReportData, prompt: str = DIRECT) -> Claim:
    """Training pays off against FastV at the student's cost."""
    table = report.systems.set_index("system")
    # With no token left, FastV still costs more than the student: there is no equal cost.
    equal = [name for name in report.role("fastv-equal-cost") if table["tokens"][name]]
    return Claim(
        "Learned compression beats training-free pruning",
        "The paper compares with FastV; its numbers for FastV are not known to us.",
        "The post-trained student scores higher on every benchmark than FastV whose prefill costs as much as that "
        "of a cnn student of the ratio. FastV of the same ratio costs more, since its first layers read every "
        "token; the tables have both.",
        _beats(report, [name for name in equal if _ratio(report, name) == _ratio(report, report.student)], prompt),
        "Add fastv-equal-cost to baselines.methods, and the student's ratio to baselines.ratios. Where the LLM has few "
        "layers and the ratio is high, FastV cannot be as cheap as the student.",
        prompt,
    )


def merging_helps(report: ReportData, prompt: str = DIRECT) -> Claim:
    """A merge of checkpoints is better than the last of them."""
    methods = [] if report.methods is None else report.methods["system"].tolist()
    rivals = dict.fromkeys([*report.role("sft", "merged"), *methods])
    rivals.pop(report.student, None)
    return Claim(
        "Merging checkpoints by Shapley values helps",
        "Checkpoints are merged with weights from Shapley values.",
        "The merged student scores higher than the checkpoints and soups it is compared with, on every benchmark.",
        _beats(report, rivals if report.student in report.role("merged") else [], prompt),
        _RUN_THE_CHAIN,
        prompt,
    )


def _beats(report: ReportData, rivals: Iterable[str], prompt: str) -> tuple[Evidence, ...]:
    """The student's paired differences from each rival, by benchmark."""
    table = headline(report.differences, prompt)
    return tuple(
        _difference(row, f"{report.benchmarks[row['benchmark']]}, against {report.label(rival)}")
        for rival in rivals
        for row in _of(table[table["baseline"] == rival], report.student)
    )


def _difference(row: Row, subject: str) -> Evidence:
    gain = interval(row["difference"], row["low"], row["high"], sign="+")
    return Evidence(subject, f"{gain} points, n = {row['n']}", verdict(row["low"], row["high"], 0.0))


def _retained(row: Row) -> str:
    if math.isnan(row["retention"]):
        return "the teacher scores 0"
    return f"{interval(row['retention'], row['low'], row['high'])} % retained"


def verdict(low: float, high: float, criterion: float) -> str:
    """Of a number that should be above ``criterion``, by its interval."""
    if low > criterion:
        return HOLDS
    return FAILS if high < criterion or low == high == criterion else UNDECIDED


def _of(table: pd.DataFrame, *systems: str) -> list[Row]:
    return table[table["system"].isin(systems)].to_dict("records")


def _ratio(report: ReportData, name: str) -> float:
    return float(report.systems.set_index("system")["ratio"][name])
