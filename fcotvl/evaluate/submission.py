"""Answer files for the hidden test sets of DocVQA and InfographicVQA (the RRC server)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pandas as pd

from fcotvl.core.answers import final_answer
from fcotvl.core.errors import DataError


def submission(predictions: pd.DataFrame, question_ids: Iterable[int]) -> str:
    """The JSON text to submit: ``[{"questionId": 1, "answer": "..."}, ...]``, by question id.

    Args:
        predictions: of one system, benchmark and prompt, columns as in ``scoring``.
        question_ids: all questions of the official test file.

    Raises:
        DataError: the server would refuse the file.
    """
    answers = [
        (_integer(row.question_id), final_answer(text) if row.prompt == "cot" else text)
        for row in predictions.itertuples(index=False)
        for text in [str(row.prediction)]
    ]
    rows = [{"questionId": key, "answer": answer} for key, answer in sorted(answers)]
    validate(rows, question_ids)
    return json.dumps(rows, ensure_ascii=False, indent=1)


def validate(rows: Any, question_ids: Iterable[int]) -> None:
    """Check what the server checks: one string a question, every question exactly once.

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


def _integer(question_id: Any) -> int:
    try:
        return int(question_id)
    except (TypeError, ValueError) as error:
        raise DataError(f"question id {question_id!r} is not the official integer") from error
