"""Ask a system every question of a benchmark, under both prompts, and keep its raw replies."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from fcotvl.compress.checkpoints import processor_for
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.core.prompts import MODES, Prompts
from fcotvl.core.records import Record
from fcotvl.inference.generate import Query, generate
from fcotvl.inference.pruned_decoding import System


def predict(
    system: System,
    processor: FcotvlProcessor,
    records: Sequence[Record],
    *,
    name: str,
    benchmark: str,
    prompts: Prompts,
    max_tiles: int,
    batch_size: int,
) -> pd.DataFrame:
    """Return one row per question and prompt, with the columns that ``evaluate.scoring`` documents.

    Args:
        system: teacher, student or training-free baseline.
        processor: the teacher's; it is adapted to the system's number of visual tokens.
        records: the benchmark's images and questions.
        name: name of the system, for the rows.
        benchmark: name of the benchmark, for the rows.
        prompts: prompt templates and the lengths of replies.
        max_tiles: largest number of tiles per picture, thumbnail not counted.
        batch_size: replies decoded together.
    """
    adapted = processor_for(processor, system.model.config)
    questions = [(record, turn) for record in records for turn in record.turns]
    tables = []
    for mode in MODES:
        replies = generate(
            system.model,
            adapted,
            [Query(record.decode, record.id, prompts.ask(turn, mode)) for record, turn in questions],
            max_new_tokens=prompts.max_new_tokens(mode),
            batch_size=batch_size,
            max_tiles=max_tiles,
            pruning=system.pruning,
            label=f"{name} {benchmark} {mode}",
        )
        columns = {
            "system": name,
            "benchmark": benchmark,
            "prompt": mode,
            "kind": [turn.kind for _, turn in questions],
            "source": [record.source for record, _ in questions],
            "image_id": [record.id for record, _ in questions],
            "question_id": [turn.id for _, turn in questions],
            "prediction": replies,
            "references": [list(turn.answers) for _, turn in questions],
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)
