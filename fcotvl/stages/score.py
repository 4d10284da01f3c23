"""Score answers by the metrics of their benchmarks."""

from pathlib import Path

from fcotvl.core.config import Params
from fcotvl.core.io import atomic
from fcotvl.evaluate.scoring import read_predictions, score_predictions


def run(params: Params, *, predictions: Path, scores: Path) -> None:  # noqa: ARG001 - every stage
    """Score replies by every metric of their benchmarks.

    Args:
        params: not used.
        predictions: table of replies, written by ``predict``.
        scores: table to write, one row per reply and metric.
    """
    table = score_predictions(read_predictions(predictions))
    with atomic(scores) as scratch:
        table.to_parquet(scratch, index=False)
