"""Write the answer file of a hidden test split."""

import logging
from pathlib import Path

from fcotvl.core.config import Params
from fcotvl.core.errors import DataError
from fcotvl.core.io import write_text
from fcotvl.core.shards import read_records
from fcotvl.evaluate.scoring import checked, read_predictions
from fcotvl.evaluate.submission import submission

log = logging.getLogger(__name__)


def run(
    params: Params,  # noqa: ARG001 - every command takes them
    *,
    predictions: Path,
    questions: Path,
    benchmark: str,
    system: str,
    prompt: str = "direct",
    output: Path,
) -> None:
    """Write one system's answers to a hidden test split as the RRC server takes them.

    Args:
        params: not used.
        predictions: table of replies, written by ``predict``.
        questions: folder of the benchmark's questions, ``data/<mix>/benchmarks/docvqa``; every one must have a reply.
        benchmark: name of the benchmark, as in the predictions.
        system: name of the system, as in the predictions.
        prompt: ``direct`` or ``cot``.
        output: JSON file to submit.

    Raises:
        DataError: there are no such replies, or the server would refuse the file.
    """
    table = checked(read_predictions(predictions))
    for column, wanted in (("benchmark", benchmark), ("system", system), ("prompt", prompt)):
        known = ", ".join(map(str, table[column].unique()))
        table = table[table[column] == wanted]
        if table.empty:
            raise DataError(f"{predictions} has no {column} {wanted!r} here; there are {known}")
    ids = [turn.id for record in read_records(questions) for turn in record.turns]
    write_text(output, submission(table, ids) + "\n")
    log.info("wrote %d answers; the server expects all questions of the test split", len(ids))
