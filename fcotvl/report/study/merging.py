"""What merging does to single benchmarks: regret, and Shapley values of each source's questions.

A merge that lifts the mean may still lose on one benchmark what a single checkpoint had won there, the see-saw. Regret
is how far a merged student stays behind the best single checkpoint of each benchmark.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from fcotvl.evaluate.effects import Effect, effect
from fcotvl.merge.shapley import values_by_question
from fcotvl.report.study.data import StudyData, System

Rows = Float[NDArray[np.float64], "seed question"]


@dataclass(frozen=True)
class Regret:
    """Points that a merged student stays behind the best single checkpoint, on the benchmark where that is most."""

    rows: Rows
    """Numbers whose mean over benchmarks is the regret."""
    benchmark: str
    """Where it is."""
    best: System
    """The best single checkpoint there, on the mean over seeds."""


def regret(study: StudyData, system: System, members: Mapping[str, System], prompt: str) -> Regret:
    """The worst regret of ``system`` over the benchmarks.

    Which benchmark is the worst, and which checkpoint is best there, are taken as the scores have them: an interval is
    that of the difference between those two. The best of several noisy scores is too high by a little, so that regret
    is rather overstated, for every method alike.
    """
    found = []
    for benchmark in study.benchmarks:
        means = {one: study.score(one, prompt, benchmark=benchmark).value for one in members.values()}
        best = max(means, key=means.__getitem__)
        found.append((study.difference(best, system, prompt, benchmark=benchmark).value, benchmark, best))
    _, benchmark, best = max(found, key=lambda one: one[0])
    here = (study.questions[prompt]["benchmark"] == benchmark).to_numpy()
    return Regret(study.paired(best, system, prompt) * here * len(study.benchmarks), benchmark, best)


def regret_effect(study: StudyData, found: Regret, prompt: str, other: Regret | None = None) -> Effect:
    """The regret with its interval; or how much larger that of ``other`` is."""
    table = study.questions[prompt]
    rows = found.rows if other is None else other.rows - found.rows
    return effect(rows, table["image_id"].tolist(), table["benchmark"].tolist())


def values_by_source(coalitions: pd.DataFrame, pairs: int = 1) -> dict[tuple[str, str | None], Effect]:
    """Shapley values in points of each checkpoint: of the mean over sources (None), and of each source's questions.

    A value is linear in the utility of single questions, so each question has its own, and their mean is the value.

    Args:
        coalitions: seed, coalition, image_id, source, question_id, utility; of each seed, every coalition that values
            are made of.
        pairs: pairs of permutations, where there are too many checkpoints for all coalitions.
    """
    by_seed = [_values_by_question(part, pairs) for _, part in coalitions.groupby("seed", sort=True)]
    questions = by_seed[0].index.to_frame(index=False)
    found: dict[tuple[str, str | None], Effect] = {}
    for player in by_seed[0].columns:
        rows = 100 * np.stack([table[player].to_numpy() for table in by_seed])
        for source in (None, *sorted(questions["source"].unique())):
            own = np.ones(len(questions), bool) if source is None else (questions["source"] == source).to_numpy()
            asked = questions[own]
            found[player, source] = effect(rows[:, own], asked["image_id"].tolist(), asked["source"].tolist())
    return found


def _values_by_question(coalitions: pd.DataFrame, pairs: int) -> pd.DataFrame:
    """A row for each question, a column for each checkpoint."""
    table = coalitions.pivot_table(index=["source", "image_id", "question_id"], columns="coalition", values="utility")
    utilities = {frozenset(filter(None, str(name).split("+"))): table[name].to_numpy() for name in table.columns}
    return pd.DataFrame(values_by_question(utilities, pairs=pairs), index=table.index)
