"""Stage ``score``: from answers to one score a question and metric. Seconds, and no model."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from fcotvl.core.config import Params
from fcotvl.core.errors import DataError
from fcotvl.core.io import atomic
from fcotvl.evaluate.scoring import score_predictions


def run(params: Params, *, predictions: Path, scores: Path) -> None:  # noqa: ARG001 - every stage
    """Score ``predictions`` by every metric of their benchmarks into ``scores``."""
    try:
        answers = pd.read_parquet(predictions)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{predictions} is not a table of answers ({reason}); predict again"
        ) from error
    with atomic(scores) as scratch:
        score_predictions(answers).to_parquet(scratch, index=False)
