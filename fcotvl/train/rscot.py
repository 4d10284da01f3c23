"""Rejection sampling of chains of thought: keep what ends in the right answer (section 3.2).

Difficulty is counted on the way: questions with every sample right, and those with none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fcotvl.core.answers import final_answer, is_correct
from fcotvl.core.errors import DataError
from fcotvl.core.prompts import MARKER
from fcotvl.core.records import Turn, balanced
from fcotvl.train.dataset import Corpus, Place

KINDS = ("extractive", "reason")
"""What chains of thought are sampled for; a transcription needs none."""


@dataclass(frozen=True)
class Question:
    """A turn and where its picture is."""

    place: Place
    record_id: str
    source: str
    turn: Turn


@dataclass(frozen=True)
class Sampled:
    """What sampling found for one question; a row per question in the resume state."""

    question_id: str
    record_id: str
    source: str
    kind: str
    n_samples: int
    n_correct: int
    rationales: list[str]
    """Distinct right ones, at most the cap."""


def choose_questions(corpus: Corpus, count: int, seed: int) -> list[Question]:
    """Up to ``count`` questions, as many of each source as there are, in an order of chance."""
    questions = (
        Question(outline.place, outline.id, outline.source, turn)
        for outline in corpus.outline()
        for turn in outline.turns
        if turn.kind in KINDS and turn.answers
    )
    return balanced(questions, count, seed, lambda question: (question.source, question.turn.id))


def select(question: Question, replies: Sequence[str], *, cap: int, similar: float) -> Sampled:
    """Keep up to ``cap`` distinct replies that reason and then give the right answer."""
    right = [text for text in replies if is_rationale(text, question.turn.answers, similar)]
    distinct: dict[str, str] = {}
    for text in right:
        distinct.setdefault(" ".join(text.lower().split()), text)
    return Sampled(
        question_id=question.turn.id,
        record_id=question.record_id,
        source=question.source,
        kind=question.turn.kind,
        n_samples=len(replies),
        n_correct=len(right),
        rationales=list(distinct.values())[:cap],
    )


def is_rationale(text: str, answers: Sequence[str], similar: float) -> bool:
    """Does ``text`` say something, then ``Answer:``, then one of ``answers``?"""
    thought, marker, _ = text.rpartition(MARKER)
    reasons = bool(marker) and bool(thought.strip())
    return reasons and is_correct(final_answer(text), answers, min_similarity=similar)


_SCHEMA = pa.schema(
    [
        ("question_id", pa.string()),
        ("record_id", pa.string()),
        ("source", pa.string()),
        ("kind", pa.string()),
        ("rationale", pa.string()),
        ("n_correct", pa.int32()),
        ("n_samples", pa.int32()),
    ]
)


def write_rationales(path: Path, sampled: Iterable[Sampled]) -> None:
    """Write one row per rationale."""
    rows = [row | {"rationale": text} for row, texts in map(_row, sampled) for text in texts]
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), path)


def _row(sampled: Sampled) -> tuple[dict[str, object], list[str]]:
    row = asdict(sampled)
    return row, row.pop("rationales")


def read_rationales(path: Path) -> dict[str, list[str]]:
    """The rationales of each question, by its id.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        table = pq.read_table(path, columns=["question_id", "rationale"])
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not readable ({reason}); delete it and run rscot") from error
    found: dict[str, list[str]] = defaultdict(list)
    for row in table.to_pylist():
        found[row["question_id"]].append(row["rationale"])
    return dict(found)


def acceptance(sampled: Sequence[Sampled]) -> pd.DataFrame:
    """Per source and kind: questions, samples, accepted and kept ones, and extreme questions."""
    rows = [
        {
            "source": one.source,
            "kind": one.kind,
            "questions": 1,
            "samples": one.n_samples,
            "accepted": one.n_correct,
            "kept": len(one.rationales),
            "all_right": int(one.n_correct == one.n_samples),
            "all_wrong": int(one.n_correct == 0),
        }
        for one in sampled
    ]
    table = pd.DataFrame(rows).groupby(["source", "kind"], as_index=False).sum()
    return table.assign(acceptance=(table["accepted"] / table["samples"]).round(4))


def chunks(questions: Sequence[Question], size: int) -> Iterator[Sequence[Question]]:
    """The questions in runs of ``size``, the unit of resuming."""
    for start in range(0, len(questions), size):
        yield questions[start : start + size]
