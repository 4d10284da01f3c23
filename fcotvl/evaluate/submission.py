"""Answer files for the hidden test sets of DocVQA and InfographicVQA (the RRC server)."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pandas as pd

from fcotvl.core.errors import DataError
from fcotvl.evaluate.scoring import answer

_QUESTION_ID = re.compile(r"(?:(?:docvqa|infographicvqa)-test-)?(\d{1,18})")
"""An official integer, or the id that our readers make of it: ``docvqa-test-57344``."""


def submission(predictions: pd.DataFrame, question_ids: Iterable[object]) -> str:
    """The JSON text to submit: ``[{"questionId": 1, "answer": "..."}, ...]``, by question id.

    Args:
        predictions: of one system, benchmark and prompt, columns as in ``scoring``.
        question_ids: all questions of the test split, named as in ``predictions``.

    Raises:
        DataError: a reply is missing, or the server would refuse the file.
    """
    if (missing := predictions["prediction"].isna()).any():
        first = predictions.loc[missing, "question_id"].iloc[0]
        raise DataError(f"{missing.sum()} questions are without a reply, the first is {first}")
    answers = [
        (official_id(row.question_id), answer(str(row.prediction), str(row.prompt)))
        for row in predictions.itertuples(index=False)
    ]
    rows = [{"questionId": key, "answer": text} for key, text in sorted(answers)]
    validate(rows, map(official_id, question_ids))
    return json.dumps(rows, ensure_ascii=False, indent=1)


def validate(rows: Any, question_ids: Iterable[int]) -> None:
    """Check what the server checks: one string per question, every question exactly once.

    Raises:
        DataError: names the first fault.
    """
    if not isinstance(rows, list):
        raise DataError(f"a submission is a JSON array of objects, not {type(rows).__name__}")
    for row in rows:
        if not isinstance(row, dict) or set(row) != {"questionId", "answer"}:
            raise DataError(f'{row!r} is not {{"questionId": ..., "answer": ...}}')
        if type(row["questionId"]) is not int or not isinstance(row["answer"], str):
            raise DataError(f"{row!r}: questionId must be an integer and answer one string")
    found, wanted = Counter(row["questionId"] for row in rows), set(question_ids)
    if twice := sorted(key for key, count in found.items() if count > 1):
        raise DataError(f"question {twice[0]} is answered {found[twice[0]]} times, not once")
    if missing := sorted(wanted - set(found)):
        raise DataError(f"{len(missing)} questions have no answer, the first is {missing[0]}")
    if extra := sorted(set(found) - wanted):
        raise DataError(f"{len(extra)} answers have no question, the first is {extra[0]}")


def official_id(question_id: object) -> int:
    """The RRC's integer in a question id: 57344 of ``docvqa-test-57344``.

    Raises:
        DataError: the id holds no official integer.
    """
    if found := _QUESTION_ID.fullmatch(str(question_id)):
        return int(found[1])
    raise DataError(
        f"question id {question_id!r} is not the official integer; submit answers to a test split "
        "that the reader docvqa or infographicvqa has read"
    )
