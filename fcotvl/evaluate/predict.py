"""Ask a system every question of a benchmark, under both prompts, and keep its raw replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap

import pandas as pd
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.checkpoints import processor_for
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.core.prompts import MODES, Prompts
from fcotvl.core.records import Record, Turn
from fcotvl.inference.fastv import Prune
from fcotvl.inference.generate import Query, generate


@dataclass(frozen=True)
class Asking:
    """How questions are put: what enters a prediction besides model and question."""

    prompts: Prompts
    max_tiles: int
    batch_size: int


def predict(
    model: InternVLForConditionalGeneration,
    processor: FcotvlProcessor,
    records: Sequence[Record],
    *,
    system: str,
    benchmark: str,
    asking: Asking,
    prune: Prune | None = None,
) -> pd.DataFrame:
    """One row a question and prompt, with the columns that ``evaluate.scoring`` documents.

    Args:
        model: teacher or student.
        processor: the teacher's; the number of visual tokens is adapted to ``model``.
        records: the benchmark's images and questions.
        system: how the rows are labelled.
        benchmark: likewise.
        asking: prompts, lengths and tiles.
        prune: for FastV and random pruning.
    """
    adapted = processor_for(processor, model.config)
    questions = [(record, turn) for record in records for turn in record.turns]
    tables = []
    for mode in MODES:

        def query(record: Record, turn: Turn, mode: str = mode) -> Query:
            return Query(record.decode, record.id, asking.prompts.ask(turn, mode))

        replies = generate(
            model,
            adapted,
            list(starmap(query, questions)),
            max_new_tokens=asking.prompts.max_new_tokens(mode),
            batch_size=asking.batch_size,
            max_tiles=asking.max_tiles,
            prune=prune,
            label=f"{system} {benchmark} {mode}",
        )
        tables.append(
            pd.DataFrame(
                {
                    "system": system,
                    "benchmark": benchmark,
                    "prompt": mode,
                    "kind": [turn.kind for _, turn in questions],
                    "source": [record.source for record, _ in questions],
                    "image_id": [record.id for record, _ in questions],
                    "question_id": [turn.id for _, turn in questions],
                    "prediction": replies,
                    "references": [list(turn.answers) for _, turn in questions],
                }
            )
        )
    return pd.concat(tables, ignore_index=True)
