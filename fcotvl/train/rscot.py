"""RS-CoT: rejection sampling of chains of thought that end in the right answer (section 3.2).

Difficulty is counted on the way: questions with every sample right, and those with none.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fcotvl.core.answers import final_answer, is_correct
from fcotvl.core.config import RscotParams
from fcotvl.core.errors import DataError
from fcotvl.core.prompts import MARKER
from fcotvl.core.records import Turn, balanced, first_id
from fcotvl.train.dataset import Corpus, RowRef

KINDS = ("extractive", "reason")
"""Kinds of turns that chains of thought are sampled for; a transcription needs none."""
_SCHEMA = pa.schema(
    [
        ("question_id", pa.string()),
        ("record_id", pa.string()),
        ("source", pa.string()),
        ("kind", pa.string()),
        ("selection", pa.string()),
        ("rationale", pa.string()),
        ("n_correct", pa.int32()),
        ("n_samples", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Question:
    """A turn, with its record and where that is."""

    ref: RowRef
    record_id: str
    source: str
    turn: Turn


@dataclass(frozen=True)
class SamplingResult:
    """How many samples of a question were correct, and the rationales that were kept."""

    question_id: str
    record_id: str
    source: str
    kind: str
    n_samples: int
    n_correct: int
    rationales: dict[str, list[str]]
    """Distinct replies, up to ``max_per_question``: ``accepted``, the correct ones, and ``all``, without a look at the
    reference."""


def choose_questions(corpus: Corpus, count: int, seed: int) -> list[Question]:
    """Up to ``count`` questions at random, as many of each source if it has them, in the order of their pictures.

    Of pictures that the mix repeats, the first copy is asked; its rationales are those of all copies.
    """
    questions = (
        Question(header.ref, header.id, header.source, turn)
        for header in corpus.headers()
        for turn in header.turns
        if turn.kind in KINDS and turn.answers and turn.id == first_id(turn.id)
    )
    chosen = balanced(questions, count, seed, lambda question: (question.source, question.turn.id))
    return sorted(chosen, key=lambda question: question.ref)


def keep_correct(question: Question, replies: Sequence[str], params: RscotParams) -> SamplingResult:
    """Keep distinct replies that reason and then give the right answer; and as many whatever they answer."""
    answers = question.turn.answers
    reasoned = [text for text in replies if reasons(text)]
    correct = [text for text in reasoned if is_rationale(text, answers, params.min_similarity)]
    return SamplingResult(
        question_id=question.turn.id,
        record_id=question.record_id,
        source=question.source,
        kind=question.turn.kind,
        n_samples=len(replies),
        n_correct=len(correct),
        rationales={
            "accepted": _distinct(correct)[: params.max_per_question],
            "all": _distinct(reasoned)[: params.max_per_question],
        },
    )


def reasons(text: str) -> bool:
    """Does ``text`` reason and then write ``Answer:``?"""
    thought, marker, _ = text.rpartition(MARKER)
    return bool(marker) and bool(thought.strip())


def is_rationale(text: str, answers: Sequence[str], min_similarity: float) -> bool:
    """Does ``text`` reason, then write ``Answer:``, then give one of ``answers``?"""
    return reasons(text) and is_correct(final_answer(text), answers, min_similarity=min_similarity)


def _distinct(texts: Iterable[str]) -> list[str]:
    """The first of those that differ in case and spaces alone."""
    found: dict[str, str] = {}
    for text in texts:
        found.setdefault(" ".join(text.lower().split()), text)
    return list(found.values())


def write_rationales(path: Path, results: Iterable[SamplingResult]) -> None:
    """Write one row per selection and rationale."""
    rows = [
        {**asdict(one), "selection": selection, "rationale": text}
        for one in results
        for selection, texts in one.rationales.items()
        for text in texts
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), path)


def read_rationales(path: Path, selection: str = "accepted") -> dict[str, list[str]]:
    """The rationales of each question, by its id.

    Args:
        path: the table that ``rscot`` wrote.
        selection: ``accepted``, or ``all`` samples whatever they answer.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        table = pq.read_table(path, columns=["question_id", "rationale"], filters=[("selection", "=", selection)])
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not readable ({reason}); delete it and run rscot") from error
    rationales: dict[str, list[str]] = defaultdict(list)
    for row in table.to_pylist():
        rationales[row["question_id"]].append(row["rationale"])
    return dict(rationales)


def acceptance_table(results: Sequence[SamplingResult]) -> pd.DataFrame:
    """Counts of questions, samples, accepted and kept replies, per source and kind."""
    rows = [
        {
            "source": one.source,
            "kind": one.kind,
            "questions": 1,
            "samples": one.n_samples,
            "accepted": one.n_correct,
            "kept": len(one.rationales["accepted"]),
            "all_right": int(one.n_correct == one.n_samples),
            "all_wrong": int(one.n_correct == 0),
        }
        for one in results
    ]
    table = pd.DataFrame(rows).groupby(["source", "kind"], as_index=False).sum()
    return table.assign(acceptance=(table["accepted"] / table["samples"]).round(4))
