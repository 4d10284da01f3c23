"""What the page of claims is made of, and every number on it: effects over questions and seeds.

The stage reads it from files; everything in this package is pure. Scores are in percent, differences in points.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fcotvl.evaluate.effects import KNEE_POINTS, Effect, Knee, effect, knee, retained
from fcotvl.report.report_data import LABELS, method

DISTILLED = "distilled"
RECIPE = "sft-full"
"""Stage of the student that is post-trained as in the paper."""
LONG = "sft-long"
"""Stage of the student that is post-trained longest, towards the teacher: an extension of ours."""
KINDS = {"extractive": "written in the picture", "reason": "to be worked out"}
"""Kinds of questions, by where their answers are."""
RIGHT = 90.0
"""Percent of a score from which on an answer counts as right, as for ``fcotvl.core.answers.is_correct``.

Relaxed accuracy is 0 or 1. ANLS is 0 or at least 0.5, where it still counts a number with a wrong digit.
"""


class System(NamedTuple):
    """What was asked, whatever the seed."""

    kind: str
    """``teacher``, a training-free baseline, or a student's compressor."""
    ratio: float = 0.0
    stage: str = ""
    """Of a student: ``distilled``, ``sft-<recipe>``, a merge method, or one of a pool or a checkpoint of it
    (``<pool>/<name>``); empty where nothing is trained."""
    scale: str = ""
    """Scale of the training, where it is not the study's own."""

    @property
    def label(self) -> str:
        """Its name in tables."""
        if not self.stage:
            return LABELS.get(self.kind, self.kind)
        pool, _, merged = self.stage.rpartition("/")
        if pool:
            return f"{self.kind}, {method(merged)} of {pool}"
        if self.stage.startswith("sft-"):
            return f"{self.kind}, recipe {self.stage.removeprefix('sft-')}"
        return f"{self.kind}, {method(self.stage)}"


TEACHER = System("teacher")


@dataclass(frozen=True)
class Pool:
    """Checkpoints that were merged by several methods."""

    title: str
    methods: Mapping[str, System]
    """The merged students, by method."""
    members: Mapping[str, System]
    """The checkpoints alone, by name."""
    coalitions: pd.DataFrame
    """Validation questions: seed, coalition, source, image_id, question_id, utility."""
    permutations: int = 1
    """Pairs of them behind Shapley values, where there are too many checkpoints for all coalitions."""
    control: bool = False
    """Is it a negative control: points of one run, which differ too little for weights to matter?"""


class Cost(NamedTuple):
    """Of one tile at the study's model, as shares of the teacher's."""

    prefill: float
    """FLOPs up to the first token, ViT left out."""
    cache: float
    """Bytes of the KV cache after prefill."""


@dataclass(frozen=True)
class Scores:
    """Headline scores of one system under one prompt."""

    seeds: tuple[int, ...]
    """Empty where nothing is trained."""
    rows: NDArray[np.float64]
    """Percent: one row for each seed (one row without), one column for each question of ``StudyData.questions``."""


@dataclass(frozen=True)
class StudyData:
    """All that the page shows."""

    facts: Mapping[str, Any]
    grids: tuple[str, ...]
    """What was compared, a sentence for each grid."""
    benchmarks: Mapping[str, str]
    """Title of each benchmark, by name, in the order of the tables."""
    questions: Mapping[str, pd.DataFrame]
    """By prompt: benchmark, kind, image_id, question_id, in the order of the columns of ``Scores.rows``."""
    scores: Mapping[tuple[System, str], Scores]
    """By system and prompt."""
    losses: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Distillation: scale (empty: the study's own), compressor, ratio, seed, step, pictures, kl."""
    costs: Mapping[System, Cost] = field(default_factory=dict)
    speed: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Of true shapes: shape, system (``cnn 0.5``), part (``connector``, ``prefill``, ``decode``; ``vit`` of all), time
    as a ratio to the teacher (measured, low, high, predicted), and the teacher's seconds."""
    shape: str = ""
    """What ``speed`` was measured on, in words."""
    pools: Sequence[Pool] = ()
    shares: Mapping[str, float] = field(default_factory=dict)
    """Share of the study's pictures that the other scales train on."""
    removed: Mapping[tuple[System, str], float] = field(default_factory=dict)
    """Share of the visual tokens of a benchmark's pictures that a system removes, by system and benchmark; of systems
    that do not remove the same share of every tile."""
    slips: Mapping[System, NDArray[np.object_]] = field(default_factory=dict)
    """Where chains of thought go wrong that the teacher's answer right, as ``chains.slips`` tells: one row for each
    seed (one row without), one column for each question; empty where they do not."""
    attention: Mapping[System, pd.DataFrame] = field(default_factory=dict)
    """By system, what ``fcotvl attention`` measured, with a column ``seed``: -1 where nothing is trained."""

    @property
    def prompts(self) -> list[str]:
        """The prompts that were used, direct first."""
        return sorted(self.questions, key=lambda prompt: prompt != "direct")

    def has(self, *systems: System) -> bool:
        """Were all of them asked?"""
        return all((system, prompt) in self.scores for system in systems for prompt in self.prompts)

    def systems(self, *, stage: str | None = None, scale: str = "") -> list[System]:
        """Those of a stage and scale, in the order in which they were read, the ratios of each together."""
        found = dict.fromkeys(system for system, _ in self.scores)
        read = list(dict.fromkeys((s.kind, s.stage) for s in found))
        chosen = [s for s in found if s.scale == scale and stage in (None, s.stage)]
        return sorted(chosen, key=lambda s: (read.index((s.kind, s.stage)), s.ratio))

    @property
    def scales(self) -> list[str]:
        """The scales of students, the least data first."""
        return sorted({system.scale for system, _ in self.scores}, key=self.share)

    def share(self, scale: str) -> float:
        """Share of the study's pictures that students of ``scale`` were trained on."""
        return self.shares.get(scale, 1.0)

    def groups(self, prompt: str, ratio: float) -> dict[str, NDArray[np.bool_]]:
        """The questions that are ``easy`` and those that are ``hard`` to compress, as masks; empty if none was asked.

        The rule is that of VTC-Bench (Liao et al. 2025, arXiv 2510.07143, section 4.1). Of the questions that the model
        answers right from the whole picture, those are hard ("group A") that it answers wrong from one that is made
        smaller until it has as many visual tokens as the compressed model, and easy ("group B") those that it answers
        right. The others are left out. There Qwen2-VL is the model, whatever is judged; here it is the teacher.
        """
        smaller = System("downsample", ratio)
        if not self.has(TEACHER, smaller):
            return {}
        whole, found = (self.right(system, prompt)[0] for system in (TEACHER, smaller))
        return {"easy": whole & found, "hard": whole & ~found}

    def right(self, system: System, prompt: str) -> NDArray[np.bool_]:
        """Which answers count as right: a row for each seed, a column for each question."""
        return self._rows(system, prompt)[1] >= RIGHT

    def slipped(self, system: System, kinds: Collection[str]) -> Effect:
        """Percent of the chains of thought that the teacher's answer right in which ``system`` makes such a slip."""

        def rows(chosen: NDArray[np.bool_], _: list[str]) -> NDArray[np.float64]:
            return np.where(np.isin(self.slips[system][:, chosen], list(kinds)), 100.0, 0.0)

        found = self._over("cot", None, None, rows, among=self.right(TEACHER, "cot")[0])
        return replace(found, low=max(found.low, 0.0))  # a share, and most are close to 0

    def score(
        self,
        system: System,
        prompt: str,
        *,
        benchmark: str | None = None,
        kind: str | None = None,
        among: NDArray[np.bool_] | None = None,
    ) -> Effect:
        """The score of ``system``: the mean over benchmarks, or one of them.

        Of all questions, or those of a ``kind``, or those ``among`` which a mask counts.
        """
        return self._over(prompt, benchmark, kind, lambda chosen, _: self._rows(system, prompt)[1][:, chosen], among)

    def retention(self, system: System, prompt: str, *, benchmark: str | None = None) -> Effect:
        """Percent of the teacher's score that ``system`` keeps."""

        def rows(chosen: NDArray[np.bool_], families: list[str]) -> NDArray[np.float64]:
            teacher = self._rows(TEACHER, prompt)[1][0, chosen]
            return retained(self._rows(system, prompt)[1][:, chosen], teacher, families)

        return self._over(prompt, benchmark, None, rows)

    def difference(
        self, one: System, other: System, prompt: str, *, benchmark: str | None = None, kind: str | None = None
    ) -> Effect:
        """Points that ``one`` scores above ``other`` on the same questions, seed by seed where both have seeds."""
        rows = partial(self.paired, one, other, prompt)
        return self._over(prompt, benchmark, kind, lambda chosen, _: rows()[:, chosen])

    def contrast(self, weights: Mapping[System, float], prompt: str, benchmarks: Mapping[str, float]) -> Effect:
        """A weighted sum of scores over systems and benchmarks, as a difference of differences."""
        seeds = self._common(list(weights), prompt)
        weighted = [w * self._of_seeds(system, prompt, seeds) for system, w in weights.items()]
        total: NDArray[np.float64] = np.sum(np.broadcast_arrays(*weighted), axis=0)
        table = self.questions[prompt]
        asked = table["benchmark"].isin(list(benchmarks)).to_numpy()
        factors = table.loc[asked, "benchmark"].map(benchmarks).to_numpy(dtype=float)
        rows: NDArray[np.float64] = (
            total[:, asked] * factors * len(benchmarks)
        )  # effect() takes the mean over benchmarks
        return effect(rows, table.loc[asked, "image_id"].tolist(), table.loc[asked, "benchmark"].tolist())

    def curves(self) -> dict[str, list[System]]:
        """Distilled students by kind, in the order of their ratios, where these are enough to seek a knee."""
        found: dict[str, list[System]] = {}
        for system in sorted(self.systems(stage=DISTILLED), key=lambda system: system.ratio):
            found.setdefault(system.kind, []).append(system)
        return {kind: systems for kind, systems in found.items() if 1 + len(systems) >= KNEE_POINTS}

    def knee(self, systems: Sequence[System], prompt: str) -> Knee:
        """Where the mean score begins to fall faster, from the teacher on over ``systems`` by their ratios."""
        curve = [TEACHER, *systems]
        seeds = self._common(curve, prompt)
        rows = np.stack(np.broadcast_arrays(*(self._of_seeds(system, prompt, seeds) for system in curve)))
        table = self.questions[prompt]
        places = np.array([system.ratio for system in curve])
        return knee(places, rows, table["image_id"].tolist(), table["benchmark"].tolist())

    def share_removed(self, system: System, benchmarks: Sequence[str]) -> float:
        """Share of the visual tokens that ``system`` removes of the pictures of ``benchmarks``, mean over these."""
        return float(np.mean([self.removed.get((system, name), system.ratio) for name in benchmarks]))

    def at_equal_share(self, system: System, kind: str, prompt: str, benchmarks: Sequence[str]) -> Effect | None:
        """Points on ``benchmarks`` above a distilled ``kind`` that removes as much there as ``system`` does.

        Its score lies on a straight line between the ratios on either side, the teacher's being 0: too low where the
        curve bends down, which favours ``system``. None where no ratio is as large.
        """
        share = self.share_removed(system, benchmarks)
        curve = [TEACHER, *(s for s in self.systems(stage=DISTILLED) if s.kind == kind)]
        below = max((s for s in curve if s.ratio <= share), key=lambda s: s.ratio)
        above = min((s for s in curve if s.ratio > share), key=lambda s: s.ratio, default=None)
        if share > below.ratio and above is None:
            return None
        weight = (share - below.ratio) / (above.ratio - below.ratio) if above else 0.0
        weights = _above_mix(system, below, above, weight)
        return self.contrast(weights, prompt, dict.fromkeys(benchmarks, 1 / len(benchmarks)))

    def at_equal_cost(self, system: System, kind: str, prompt: str) -> Effect | None:
        """Points above the training-free ``kind`` whose prefill costs as much as that of ``system``.

        Its score lies on a straight line between its ratios whose costs are on either side, the teacher's being 0:
        what it scores where each question draws one of the two. None where all cost more, or none was asked.
        """
        cost = self.costs[system].prefill
        asked = [s for s in self.systems(stage="") if s.kind == kind]
        below = max((s for s in asked if self.costs[s].prefill <= cost), key=lambda s: self.costs[s], default=None)
        dearer = [s for s in [*asked, TEACHER] if self.costs[s].prefill > cost]
        above = min(dearer, key=lambda s: self.costs[s], default=None)
        if below is None:
            return None
        ends = self.costs[below].prefill, self.costs[above].prefill if above else math.inf
        weight = (cost - ends[0]) / (ends[1] - ends[0])
        weights = _above_mix(system, below, above, weight)
        return self.contrast(weights, prompt, dict.fromkeys(self.benchmarks, 1 / len(self.benchmarks)))

    def _over(
        self,
        prompt: str,
        benchmark: str | None,
        kind: str | None,
        rows: Callable[[NDArray[np.bool_], list[str]], NDArray[np.float64]],
        among: NDArray[np.bool_] | None = None,
    ) -> Effect:
        table = self.questions[prompt]
        chosen = np.ones(len(table), dtype=bool) if among is None else among.copy()
        if benchmark is not None:
            chosen &= (table["benchmark"] == benchmark).to_numpy()
        if kind is not None:
            chosen &= (table["kind"] == kind).to_numpy()
        families = table.loc[chosen, "benchmark"].tolist()
        return effect(rows(chosen, families), table.loc[chosen, "image_id"].tolist(), families)

    def _rows(self, system: System, prompt: str) -> tuple[tuple[int, ...], NDArray[np.float64]]:
        found = self.scores[system, prompt]
        return found.seeds, found.rows

    def paired(self, one: System, other: System, prompt: str) -> NDArray[np.float64]:
        """Points that ``one`` scores above ``other``: a row for each seed of both, a column for each question."""
        seeds = self._common([one, other], prompt)
        return self._of_seeds(one, prompt, seeds) - self._of_seeds(other, prompt, seeds)

    def _common(self, systems: list[System], prompt: str) -> list[int]:
        """The seeds that all trained ones of ``systems`` have."""
        trained = [set(seeds) for seeds in (self._rows(system, prompt)[0] for system in systems) if seeds]
        return sorted(set.intersection(*trained)) if trained else []

    def _of_seeds(self, system: System, prompt: str, seeds: Sequence[int]) -> NDArray[np.float64]:
        own, rows = self._rows(system, prompt)
        return rows[[own.index(seed) for seed in seeds]] if own else rows


def _above_mix(system: System, one: System, other: System | None, share: float) -> dict[System, float]:
    """Weights of ``system`` above what lies between two others, with this ``share`` of the ``other``."""
    return {system: 1.0, one: share - 1} | ({other: -share} if other and share else {})
