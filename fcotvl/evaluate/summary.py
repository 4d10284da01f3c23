"""From a table of scores to means, differences and retentions, each with n and its interval.

One row a system, benchmark, prompt and metric: ``headline`` (is it the benchmark's?),
``n`` and a value with ``low`` and ``high``, in percent (differences: in percentage points).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from fcotvl.core.bootstrap import (
    BOOTSTRAP,
    Bootstrap,
    Interval,
    Questions,
    difference_interval,
    mean_interval,
    retention_interval,
)
from fcotvl.evaluate import benchmarks

_TASK = ["benchmark", "prompt", "metric"]
_PAIRED: dict[str, Callable[[Any, Any, Questions, Bootstrap], Interval]] = {
    "difference": difference_interval,
    "retention": retention_interval,
}


def summarise(
    scores: pd.DataFrame, *, by: Sequence[str] = (), bootstrap: Bootstrap = BOOTSTRAP
) -> pd.DataFrame:
    """Mean scores in percent: system, benchmark, prompt, metric, headline, n, score, low, high.

    Args:
        scores: as ``score_predictions`` returns them.
        by: further columns to split by, as ``kind``.
        bootstrap: of the intervals.
    """
    keys = ["system", *_TASK, *by]
    rows = []
    for names, group in scores.groupby(keys, sort=False):
        label = dict(zip(keys, map(str, names), strict=True))
        interval = mean_interval(group["score"].to_numpy(), _questions(label, group), bootstrap)
        rows.append(label | _headline(label) | _percent(interval, "score"))
    return pd.DataFrame(rows)


def compare(
    scores: pd.DataFrame, pairs: Iterable[tuple[str, str]], *, bootstrap: Bootstrap = BOOTSTRAP
) -> pd.DataFrame:
    """Paired differences in points: system, baseline, ..., n, difference, low, high.

    Only questions that both systems were asked count. Pairs that share none give no row.
    """
    return _paired(scores, pairs, "difference", bootstrap)


def retention(
    scores: pd.DataFrame, teacher: str, *, bootstrap: Bootstrap = BOOTSTRAP
) -> pd.DataFrame:
    """Each system's score in percent of the teacher's: system, baseline, ..., n, retention, ..."""
    pairs = [(name, teacher) for name in scores["system"].unique() if name != teacher]
    return _paired(scores, pairs, "retention", bootstrap)


def _paired(
    scores: pd.DataFrame,
    pairs: Iterable[tuple[str, str]],
    column: str,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    interval = _PAIRED[column]
    by_system = dict(list(scores.groupby("system")))
    rows = []
    for system, baseline in pairs:
        if system not in by_system or baseline not in by_system:
            continue
        both = by_system[system].merge(
            by_system[baseline], on=[*_TASK, "question_id"], suffixes=("", "_baseline")
        )
        for names, group in both.groupby(_TASK, sort=False):
            label = dict(zip(_TASK, map(str, names), strict=True))
            found = interval(
                group["score"].to_numpy(),
                group["score_baseline"].to_numpy(),
                _questions(label, group),
                bootstrap,
            )
            ends = {"system": system, "baseline": baseline}
            rows.append(ends | label | _headline(label) | _percent(found, column))
    columns = ["system", "baseline", *_TASK, "headline", "n", column, "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _questions(label: dict[str, str], group: pd.DataFrame) -> Questions:
    """Images of the questions, and the benchmark's halves where exactly those are present."""
    sources = group["source"].tolist()
    halves = set(benchmarks.get(label["benchmark"]).halves)
    return Questions(group["image_id"].tolist(), sources if halves == set(sources) else None)


def _headline(label: dict[str, str]) -> dict[str, bool]:
    return {"headline": benchmarks.get(label["benchmark"]).headline == label["metric"]}


def _percent(interval: Interval, column: str) -> dict[str, Any]:
    values = {column: interval.value, "low": interval.low, "high": interval.high}
    return {"n": interval.n} | {name: 100 * value for name, value in values.items()}
