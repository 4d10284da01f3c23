"""From a table of predictions to a table of scores; no answer is generated here.

Both are pandas data frames:

* predictions, one row per reply: ``system``, ``benchmark``, ``prompt`` (``direct`` or ``cot``), ``kind``, ``image_id``
  (of its pixels, so that equal pictures count as one), ``question_id``, ``prediction`` (the raw reply), ``references``
  (a list of strings, empty where hidden), and, optionally, ``source`` (the record's, as ``chartqa/human``).
* scores, one row per reply and metric: the same without ``prediction`` and ``references``, with ``metric`` and
  ``score`` in [0, 1].
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fcotvl.core.answers import final_answer
from fcotvl.core.errors import DataError
from fcotvl.evaluate import benchmarks, metrics

log = logging.getLogger(__name__)

KEYS = ["system", "benchmark", "prompt", "kind", "source", "image_id", "question_id"]
PREDICTION_COLUMNS = [*KEYS, "prediction", "references"]
SCORE_COLUMNS = [*KEYS, "metric", "score"]
DAMAGED = (OSError, pa.ArrowException, ValueError, TypeError, LookupError, AttributeError)
"""What reading a damaged Parquet file raises: pandas' own metadata is part of it."""


def read_predictions(path: Path) -> pd.DataFrame:
    """The predictions in a Parquet file.

    Raises:
        DataError: there is no such file, or it is not a Parquet file.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("not a file")  # pandas would read a folder, and wait for a pipe
        pq.read_table(path).validate(full=True)  # as pandas reads it, text that is not UTF-8 fails at first use
        return pd.read_parquet(path)
    except DAMAGED as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path} is not a table of predictions ({reason}); run predict first") from error


def _require_text(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse a table in which one of ``columns`` holds something else than text."""
    for name in columns:
        wrong = [value for value in table[name] if not isinstance(value, str)]
        if wrong:
            raise DataError(f"column {name!r} holds {type(wrong[0]).__name__} in {len(wrong)} rows, expected text")


def score_predictions(predictions: pd.DataFrame) -> pd.DataFrame:
    """Score every reply by every metric of its benchmark.

    Questions without references are left out.

    Raises:
        DataError: the predictions are malformed (see ``checked``), or none has references.
    """
    table = checked(predictions)
    known = table[table["references"].map(len) > 0]
    if len(known) < len(table):
        log.warning("%d replies have no references and no score", len(table) - len(known))
    if known.empty:
        raise DataError("no prediction has references; for a hidden test set, run fcotvl submit instead")
    scorers = {
        name: {metric: metrics.get(metric) for metric in benchmarks.get(name).metrics}
        for name in known["benchmark"].unique()
    }
    rows = [
        (*(row[key] for key in KEYS), metric, score(text, row["references"]))
        for row in known.to_dict("records")
        for text in [answer(row["prediction"], row["prompt"])]
        for metric, score in scorers[row["benchmark"]].items()
    ]
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)


def checked(predictions: pd.DataFrame) -> pd.DataFrame:
    """A copy of ``predictions`` with a ``source`` and lists of references throughout.

    Raises:
        DataError: a column or a reply is missing, or a question is answered twice.
    """
    table = predictions.assign(source=predictions.get("source", ""))
    if missing := [name for name in PREDICTION_COLUMNS if name not in table]:
        raise DataError(f"the predictions have no column {missing[0]!r}; run predict again")
    _require_text(table, KEYS)
    identity = ["system", "benchmark", "prompt", "question_id"]
    for problem, found in (
        ("answered twice", table.duplicated(identity)),
        ("without a reply", table["prediction"].isna()),
    ):
        if found.any():
            first = " / ".join(map(str, table.loc[found, identity].iloc[0]))
            raise DataError(f"{found.sum()} questions are {problem}, the first is {first}")
    _require_text(table, ["prediction"])
    references = [_texts(one) for one in table["references"]]
    return table.assign(references=pd.Series(references, index=table.index, dtype=object))


def _texts(references: Any) -> list[str]:
    """The references of one question, as Parquet gives them; none where they are hidden."""
    found = [] if references is None else references
    if not isinstance(found, list | np.ndarray) or not all(isinstance(one, str) for one in found):
        raise DataError(f"references are {type(found).__name__} {str(found)[:60]!r}, expected a list of texts")
    return list(found)


def answer(reply: str, prompt: str) -> str:
    """What is scored: a chain of thought's final answer, a direct reply as it stands."""
    return final_answer(reply) if prompt == "cot" else reply
