"""What a report is made of. The stage reads it from files; everything in this package is pure.

Scores, retentions and differences are in percent or percentage points, with the ends of a 95 % interval in ``low`` and
``high`` and the number of questions in ``n``, as ``fcotvl.evaluate.summary`` returns them. What a run does not have is
``None`` or an empty table, and is left out of the report.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fcotvl.core.registry import Registry

TRAINING_FREE = Registry("fcotvl.inference.pruning", "build", noun="training-free baseline").available()
"""Baselines without training; their systems are called ``<baseline>-r<ratio>``."""
ROLES = ("teacher", "distilled", "sft", "merged", *TRAINING_FREE)
"""What a system is; tables list systems in this order."""
LABELS = {
    "teacher": "Teacher",
    "distilled": "Distilled student",
    "sft": "Fine-tuned, {detail}",
    "merged": "Merged, {detail}",
    "divprune": "DivPrune",
    "downsample": "Smaller tiles",
    "fastv": "FastV",
    "fastv-equal-cost": "FastV at the student's cost",
    "random": "Random pruning",
    "untrained-pool": "Pooling, untrained",
    "visionzip": "VisionZip",
}
METHODS = {
    "shapley": "Shapley-weighted merge",
    "uniform": "Uniform soup of all checkpoints",
    "greedy": "Greedy soup of checkpoints",
    "best": "Best single checkpoint",
    "search": "CMA-ES-weighted merge",
}
"""Merge methods in words; one without an entry goes by its name."""


def method(name: str) -> str:
    """A merge method within a sentence."""
    words = METHODS.get(name, name)
    return words if words.startswith(("CMA-ES", "Shapley")) else words[0].lower() + words[1:]


def system(name: str, role: str, *, ratio: float, tokens: int, detail: str = "") -> dict[str, Any]:
    """One row of ``ReportData.systems``.

    Args:
        name: the system's name in the tables of scores.
        role: one of ``ROLES``.
        ratio: share of visual tokens removed.
        tokens: visual tokens left per tile (for FastV and random pruning: from layer K on).
        detail: the recipe of ``sft``, the method of ``merged``.

    Raises:
        ValueError: the role is unknown.
    """
    if role not in ROLES:
        raise ValueError(f"role {role!r} is not one of {', '.join(ROLES)}")
    label = LABELS.get(role, role).format(detail=detail)
    label += f", {100 * ratio:g} % removed" if role in TRAINING_FREE else ""
    return {"system": name, "role": role, "label": label, "ratio": ratio, "tokens": tokens}


@dataclass(frozen=True)
class Answer:
    """What a system replied to one question."""

    final: str
    reasons: str
    """What a chain of thought says before its final answer."""
    score: float
    """By the benchmark's headline metric, in [0, 1]."""


@dataclass(frozen=True)
class Case:
    """One question under one prompt."""

    benchmark: str
    kind: str
    prompt: str
    question: str
    references: tuple[str, ...]
    picture: str
    """A ``data:`` address of the picture, which may be smaller than ``size``."""
    size: tuple[int, int]
    """Width and height of what the systems saw, in pixels."""
    tiles: int
    """Into how many tiles it was cut, thumbnail included."""
    source: str
    licence: str
    outcome: str
    """``alike`` where teacher and student have the same score; else who scores higher, ``teacher`` or ``student``."""
    answers: Mapping[str, Answer]
    """By system."""


@dataclass(frozen=True)
class Gallery:
    """Real cases, and how many others there are."""

    cases: tuple[Case, ...]
    drawn_from: int
    """Cases that could have been drawn."""
    withheld: Mapping[str, int]
    """Cases that could not, by the licence that forbids it."""


@dataclass(frozen=True)
class ReportData:
    """All that one report shows."""

    facts: Mapping[str, Any]
    """What was run, shown at the top: scale, mix, compressor, ratio, seed, commit, ..."""
    params: str
    """The params of the run, as text."""
    benchmarks: Mapping[str, str]
    """Title of each benchmark, by name, in the order of the tables."""
    metrics: Mapping[str, str]
    """Headline metric of each benchmark, in words."""
    student: str
    """The headline system; ``teacher`` is what it is measured against."""
    systems: pd.DataFrame
    """system, role, label, ratio, tokens: one row each, made by ``system``."""
    scores: pd.DataFrame
    """system, benchmark, prompt, metric, headline, n, score, low, high."""
    retention: pd.DataFrame
    """system, baseline (the teacher), benchmark, prompt, metric, headline, n, retention, low, high."""
    differences: pd.DataFrame
    """system, baseline, benchmark, prompt, metric, headline, n, difference, low, high (paired)."""
    harness: pd.DataFrame | None = None
    """system, what (``replies`` or ``scores``), equal, total: lm-evaluation-harness beside the chain."""
    kinds: pd.DataFrame | None = None
    """``scores`` split by a further column ``kind``."""
    grid: pd.DataFrame | None = None
    """The ablation: compressor, ratio, seed, stage (``distilled`` or a recipe), benchmark, prompt, n, score, low, high,
    by each benchmark's headline metric."""
    grid_differences: pd.DataFrame | None = None
    """Paired, within one ratio, seed and stage: compressor, baseline (a compressor), ratio, seed, stage, benchmark,
    prompt, n, difference, low, high."""
    methods: pd.DataFrame | None = None
    """Merge methods: method, utility (percent of validation questions answered correctly), system."""
    shapley: pd.DataFrame | None = None
    """checkpoint, value, low, high (points of utility), and ``weight_<method>`` of each method."""
    gaps: pd.DataFrame | None = None
    """one, other (checkpoints), value, low, high: differences of Shapley values."""
    speed: pd.DataFrame | None = None
    """system, part (``prefill``, ``decode``, ``total``, ...), time (ratio to the teacher in the same run), low, high
    (least and greatest), flops (ratio to the teacher), pairs (rounds), removed (share of visual tokens that its prompts
    lack), tiles (number of tiles measured)."""
    audit: Mapping[str, Any] | None = None
    """The audit that ``curate`` wrote."""
    acceptance: pd.DataFrame | None = None
    """Rejection sampling, one row per source; columns are shown as they are."""
    distill: pd.DataFrame | None = None
    """step, loss, and further losses (kl, ce)."""
    sft: pd.DataFrame | None = None
    """step, dataset, loss."""
    sampling: pd.DataFrame | None = None
    """step, dataset, weight."""
    gallery: Gallery | None = None

    @property
    def prompts(self) -> list[str]:
        """The prompts that were used, direct first."""
        return sorted(self.scores["prompt"].unique(), key=lambda prompt: prompt != "direct")

    def role(self, *roles: str) -> list[str]:
        """Names of the systems of these roles, in order."""
        table = self.systems
        return [name for role in roles for name in table.loc[table["role"] == role, "system"]]

    def label(self, name: str) -> str:
        """What tables call a system: its own name where neither ``systems`` nor ``METHODS`` has one."""
        labels = METHODS | dict(zip(self.systems["system"], self.systems["label"], strict=True))
        return str(labels.get(name, name))
