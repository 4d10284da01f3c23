"""From a table of scores to means, differences and retentions, each with n and its interval.

One row per system, benchmark, prompt and metric: ``headline`` (whether the metric is the benchmark's headline), ``n``,
and a value with ``low`` and ``high``, in percent (differences: in percentage points).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
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

MEAN = "mean"
"""In place of a benchmark and its metric: the mean of all benchmarks' headlines."""
_TASK = ["benchmark", "prompt", "metric"]


def summarise(scores: pd.DataFrame, *, by: Sequence[str] = (), bootstrap: Bootstrap = BOOTSTRAP) -> pd.DataFrame:
    """Mean scores in percent: system, benchmark, prompt, metric, headline, n, score, low, high.

    Args:
        scores: as ``score_predictions`` returns them.
        by: further columns to split by, as ``kind``.
        bootstrap: how intervals are made.
    """
    keys = ["system", *_TASK, *by]
    return pd.DataFrame(
        _row(label, "score", mean_interval(group["score"].to_numpy(), questions, bootstrap))
        for label, group, questions in _groups(scores, keys)
    )


def compare(
    scores: pd.DataFrame, pairs: Iterable[tuple[str, str]], *, bootstrap: Bootstrap = BOOTSTRAP
) -> pd.DataFrame:
    """Paired differences in points: system, baseline, ..., n, difference, low, high.

    Only questions that both systems were asked count. Pairs that share none give no row.
    """
    return _paired(scores, pairs, "difference", difference_interval, bootstrap)


def retention(scores: pd.DataFrame, teacher: str, *, bootstrap: Bootstrap = BOOTSTRAP) -> pd.DataFrame:
    """Each system's score in percent of the teacher's: system, baseline, ..., n, retention, ...

    Where there are several benchmarks, rows of a benchmark ``MEAN`` follow: the system's mean score in percent of the
    teacher's. Each benchmark counts the same, halves or not, and its images are resampled with those of the others.
    """
    pairs = [(name, teacher) for name in scores["system"].unique() if name != teacher]
    headline = [benchmarks.get(b).headline == m for b, m in zip(scores["benchmark"], scores["metric"], strict=True)]
    whole = scores[headline]
    names = {key: whole["benchmark"] + "/" + whole[key].astype(str) for key in ("image_id", "question_id")}
    whole = whole.assign(source=whole["benchmark"], benchmark=MEAN, metric=MEAN, **names)
    several = scores["benchmark"].nunique() > 1
    tables = [_paired(table, pairs, "retention", retention_interval, bootstrap) for table in (scores, whole)]
    return pd.concat(tables if several else tables[:1], ignore_index=True)


def _paired(
    scores: pd.DataFrame,
    pairs: Iterable[tuple[str, str]],
    column: str,
    interval: Callable[[Any, Any, Questions, Bootstrap], Interval],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    by_system = dict(list(scores.groupby("system")))
    rows = []
    for system, baseline in pairs:
        if system not in by_system or baseline not in by_system:
            continue
        both = by_system[system].merge(by_system[baseline], on=[*_TASK, "question_id"], suffixes=("", "_baseline"))
        for label, group, questions in _groups(both, _TASK):
            values = group["score"].to_numpy(), group["score_baseline"].to_numpy()
            row = _row(label, column, interval(*values, questions, bootstrap))
            rows.append({"system": system, "baseline": baseline} | row)
    columns = ["system", "baseline", *_TASK, "headline", "n", column, "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _groups(table: pd.DataFrame, keys: list[str]) -> Iterator[tuple[dict[str, str], pd.DataFrame, Questions]]:
    """Label, rows and questions of each group.

    The questions' strata are the benchmark's halves where exactly those are present, or the benchmarks of a mean.
    """
    for names, group in table.groupby(keys, sort=False):
        label = dict(zip(keys, map(str, names), strict=True))
        sources, name = group["source"].tolist(), label["benchmark"]
        strata = sources if name == MEAN or set(sources) == set(benchmarks.get(name).halves) else None
        yield label, group, Questions(group["image_id"].tolist(), strata)


def _row(label: dict[str, str], column: str, interval: Interval) -> dict[str, Any]:
    name = label["benchmark"]
    headline = label["metric"] == (MEAN if name == MEAN else benchmarks.get(name).headline)
    values = {column: interval.value, "low": interval.low, "high": interval.high}
    percent = {name: 100 * value for name, value in values.items()}
    return label | {"headline": headline, "n": interval.n} | percent
