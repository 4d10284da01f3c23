"""Tables of scores as the stage ``score`` writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

import pandas as pd

from fcotvl.evaluate.scoring import score_predictions


def write_scores(
    path: Path,
    systems: Iterable[str],
    benchmarks: Iterable[str],
    *,
    correct: int,
    questions: int = 8,
    kinds: Sequence[str] = ("extractive",),
    predictions: Path | None = None,
) -> None:
    """Scores of ``systems``, each with the first ``correct`` answers correct; and its answers, if asked for."""
    replies = [
        {
            "system": system,
            "benchmark": benchmark,
            "prompt": prompt,
            "kind": kinds[number % len(kinds)],
            "image_id": str(number // 2),
            "question_id": str(number),
            "prediction": "a" if number < correct else "b",
            "references": ["a"],
        }
        for system in systems
        for benchmark in benchmarks
        for prompt in ("direct", "cot")
        for number in range(questions)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    score_predictions(pd.DataFrame(replies)).to_parquet(path)
    if predictions:
        predictions.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(replies).to_parquet(predictions)


def write_coalitions(path: Path, players: Sequence[str], *, questions: int = 4) -> None:
    """Utilities as the stage ``merge`` writes them; each checkpoint adds the same."""
    names = [frozenset(members) for size in range(len(players) + 1) for members in combinations(players, size)]
    rows = [
        {
            "coalition": "+".join(sorted(members)),
            "size": len(members),
            "image_id": f"val-{number // 2}",
            "source": "rendered/chart",
            "kind": "reason",
            "question_id": f"val-{number}",
            "utility": len(members) / len(players),
        }
        for members in names
        for number in range(questions)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)
