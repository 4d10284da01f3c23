"""From a table of predictions to a table of scores; no answer is generated here.

Both are pandas data frames:

* predictions, one row a reply: ``system``, ``benchmark``, ``prompt`` (``direct`` or ``cot``),
  ``kind``, ``image_id``, ``question_id``, ``prediction`` (the raw reply), ``references`` (a list of
  strings, empty where hidden), and, optionally, ``source`` (the record's, as ``chartqa/human``).
* scores, one row a reply and metric: the same without ``prediction`` and ``references``, with
  ``metric`` and ``score`` in [0, 1].
"""

from __future__ import annotations

import logging

import pandas as pd

from fcotvl.core.answers import final_answer
from fcotvl.core.errors import DataError
from fcotvl.evaluate import benchmarks, metrics

log = logging.getLogger(__name__)

KEYS = ["system", "benchmark", "prompt", "kind", "source", "image_id", "question_id"]
PREDICTION_COLUMNS = [*KEYS, "prediction", "references"]
SCORE_COLUMNS = [*KEYS, "metric", "score"]


def score_predictions(predictions: pd.DataFrame) -> pd.DataFrame:
    """Score every reply by every metric of its benchmark.

    A chain-of-thought reply is scored by its final answer, a direct one as it stands. Questions
    without references are left out.

    Raises:
        DataError: a column is missing, a question is answered twice, or none has references.
    """
    table = _checked(predictions)
    known = table[table["references"].map(len) > 0]
    if len(known) < len(table):
        log.warning("%d replies have no references and no score", len(table) - len(known))
    if known.empty:
        raise DataError("no prediction has references; write a submission file for a hidden test")
    rows = [
        (*(row[key] for key in KEYS), name, metrics.get(name)(answer, row["references"]))
        for row in known.to_dict("records")
        for answer in [_answer(row["prediction"], row["prompt"])]
        for name in benchmarks.get(row["benchmark"]).metrics
    ]
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)


def _checked(predictions: pd.DataFrame) -> pd.DataFrame:
    table = predictions.assign(source=predictions.get("source", ""))
    if missing := [name for name in PREDICTION_COLUMNS if name not in table]:
        raise DataError(f"the predictions have no column {missing[0]!r}; run evaluate again")
    identity = ["system", "benchmark", "prompt", "question_id"]
    if (twice := table.duplicated(identity)).any():
        first = " / ".join(map(str, table.loc[twice, identity].iloc[0]))
        raise DataError(f"{twice.sum()} questions are answered twice, the first is {first}")
    references = [[] if one is None else list(one) for one in table["references"]]
    return table.assign(references=pd.Series(references, index=table.index, dtype=object))


def _answer(reply: str, prompt: str) -> str:
    return final_answer(reply) if prompt == "cot" else reply
