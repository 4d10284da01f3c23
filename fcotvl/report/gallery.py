"""The gallery: real questions with the answer of every system, drawn by chance and balanced.

A case is one question under one prompt. Every benchmark has as many cases as any other, and within each they are
balanced over the kind of question, the prompt, and whether teacher and student score alike. A picture is shown only
where the licence of its data set lets anyone show it.
"""

import base64
import io
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import pandas as pd
from PIL import Image

from fcotvl.core.answers import final_answer
from fcotvl.core.prompts import MARKER
from fcotvl.core.records import Record, Turn, balanced
from fcotvl.report.report_data import Answer, Case, Gallery

LICENCES = frozenset({"Apache-2.0", "CC BY 4.0", "CC0-1.0", "CDLA-Permissive-1.0", "CDLA-Permissive-2.0", "MIT"})
"""Licences of data sets whose pictures may stand on the page, as a mix spells them. Not among them are licences of code
(GPL-3.0), those of a database without its contents (ODC-BY), and all that allow research alone."""
CASES = 24
PICTURE_BYTES = 48_000
"""Most of a picture: 24 of them are 1.5 MB of base64, half of what a page may have."""
ENCODINGS = ((448, True), (448, False), (320, False), (224, False), (112, False))
"""Longest side of a picture in pixels, and whether nothing is lost; the first with few enough bytes is taken."""
_QUESTION = ["benchmark", "prompt", "question_id"]


def scored_replies(predictions: pd.DataFrame, scores: pd.DataFrame, headlines: Mapping[str, str]) -> pd.DataFrame:
    """Each reply that has a score, with its score by the headline metric of its benchmark.

    Args:
        predictions: system, benchmark, prompt, kind, question_id, prediction.
        scores: system, benchmark, prompt, question_id, metric, score.
        headlines: the metric of each benchmark.
    """
    keys = ["system", *_QUESTION]
    headline = scores.loc[scores["metric"] == scores["benchmark"].map(headlines), [*keys, "score"]]
    return predictions.merge(headline, on=keys)


def make_gallery(
    replies: pd.DataFrame,
    read: Callable[[str], Iterable[Record]],
    *,
    student: str,
    tiles: Callable[[str, Record], int],
    count: int = CASES,
) -> Gallery:
    """Draw up to ``count`` cases; the same replies always give the same ones.

    Args:
        replies: as ``scored_replies`` returns them.
        read: the records of a benchmark; called twice, so that pictures need no memory before they are chosen.
        student: the system that is compared with the teacher.
        tiles: into how many tiles a picture of a benchmark is cut.
        count: most cases.
    """
    names = list(replies["benchmark"].unique())
    licences = {(name, turn.id): record.licence for name in names for record in read(name) for turn in record.turns}
    own = replies[replies["system"] == student].set_index(_QUESTION)["score"]
    pairs = replies[replies["system"] == "teacher"].join(own.rename("student"), on=_QUESTION, how="inner")
    asked = zip(pairs["benchmark"], pairs["question_id"], strict=True)
    pairs = pairs.assign(licence=[licences.get(question, "unknown") for question in asked])
    allowed = pairs["licence"].isin(LICENCES)
    groups = pairs[allowed].groupby("benchmark", sort=False)
    drawn = [
        row
        for _, part in groups
        for row in balanced(part.to_dict("records"), max(1, count // len(groups)), seed=0, named=_stratum)
    ][:count]
    wanted = {(row["benchmark"], row["question_id"]) for row in drawn}
    found = {
        (name, turn.id): (record, turn)
        for name in dict.fromkeys(row["benchmark"] for row in drawn)
        for record in read(name)
        for turn in record.turns
        if (name, turn.id) in wanted
    }
    keys = {tuple(row[name] for name in _QUESTION): row for row in drawn}
    answers = {key: part for key, part in replies.groupby(_QUESTION) if key in keys}
    cases = []
    for key, row in keys.items():
        record, turn = found[row["benchmark"], row["question_id"]]
        cases.append(_case(row, record, turn, tiles(row["benchmark"], record), answers[key]))
    return Gallery(
        cases=tuple(cases),
        drawn_from=int(allowed.sum()),
        withheld={str(name): int(n) for name, n in pairs.loc[~allowed, "licence"].value_counts().sort_index().items()},
    )


def embedded(picture: Image.Image) -> str:
    """The picture as a ``data:`` address of at most ``PICTURE_BYTES`` before base64, made smaller where it must be."""
    for side, lossless in ENCODINGS:
        small, file = picture.copy(), io.BytesIO()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        small.save(file, "WEBP", lossless=lossless, quality=80)
        if file.tell() <= PICTURE_BYTES:
            break
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _outcome(row: Mapping[Hashable, Any]) -> str:
    if row["score"] == row["student"]:
        return "alike"
    return "teacher" if row["score"] > row["student"] else "student"


def _stratum(row: Mapping[Hashable, Any]) -> tuple[str, str]:
    """What cases of a benchmark are balanced over, and the case's name."""
    alike = "alike" if _outcome(row) == "alike" else "apart"
    return f"{alike} {row['kind']} {row['prompt']}", f"{row['question_id']} {row['prompt']}"


def _case(row: Mapping[Hashable, Any], record: Record, turn: Turn, tiles: int, replies: pd.DataFrame) -> Case:
    return Case(
        benchmark=row["benchmark"],
        kind=turn.kind,
        prompt=row["prompt"],
        question=turn.question,
        references=turn.answers,
        picture=embedded(record.decode()),
        size=(record.width, record.height),
        tiles=tiles,
        source=record.source,
        licence=record.licence,
        outcome=_outcome(row),
        answers={
            system: _answer(reply, row["prompt"], score)
            for system, reply, score in zip(replies["system"], replies["prediction"], replies["score"], strict=True)
        },
    )


def _answer(reply: str, prompt: str, score: float) -> Answer:
    if prompt != "cot":
        return Answer(reply, "", score)
    return Answer(final_answer(reply), reply.rpartition(MARKER)[0].strip(), score)
