"""Stage ``card``: measure a teacher on held-out renders, for its model card."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from PIL import Image
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.checkpoints import load_processor, load_teacher, make_student, processor_for
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.core.answers import final_answer
from fcotvl.core.bootstrap import Questions, mean_interval
from fcotvl.core.config import Params
from fcotvl.core.geometry import RATIOS
from fcotvl.core.io import write_text
from fcotvl.core.records import Turn
from fcotvl.evaluate import metrics
from fcotvl.inference.generate import Query, generate
from fcotvl.toy.render import FAMILIES, Rendered, render

log = logging.getLogger(__name__)

SEED = 2000
"""Of the held-out pictures: no stage and no training draws from it."""
EXACT, SIMILAR = "exact_match", "anls"


@dataclass(frozen=True)
class Exam:
    """One row of the card: which questions, asked how, of what."""

    title: str
    kind: str
    mode: str
    pictures: int
    ratio: float = 0.0
    """Share of visual tokens that untrained pooling removes."""
    blind: bool = False
    """Show another picture of the same family."""


def exams(pictures: int) -> tuple[Exam, ...]:
    """All rows of the card; controls use a quarter of the pictures."""
    some = max(2, pictures // 4)
    pooled = [Exam(f"untrained pooling {r}", "extractive", "direct", some, r) for r in RATIOS[1:]]
    return (
        Exam("extractive, direct", "extractive", "direct", pictures),
        Exam("extractive, CoT", "extractive", "cot", some),
        Exam("reasoning, CoT", "reason", "cot", pictures),
        Exam("reasoning, direct", "reason", "direct", some),
        Exam("blind: extractive, direct", "extractive", "direct", some, blind=True),
        *pooled,
    )


def run(params: Params, *, teacher: Path, card: Path, pictures: str = "1000") -> None:
    """Write a table of scores with 95 % intervals to ``card``.

    Args:
        params: the study; prompts and reply lengths come from its scale.
        teacher: the checkpoint's folder.
        card: the Markdown file to write.
        pictures: how many per family.
    """
    model, processor = load_teacher(teacher), load_processor(teacher)
    rows = []
    for family in FAMILIES:
        drawn = [render(family, "test", index, SEED) for index in range(int(pictures))]
        for exam in exams(int(pictures)):
            rows.append(_sit(params, exam, family, drawn[: exam.pictures], (model, processor)))
            log.info("%s, %s: %s", family, exam.title, rows[-1])
    table = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
    write_text(card, f"{table}\n")


def _sit(
    params: Params,
    exam: Exam,
    family: str,
    drawn: Sequence[Rendered],
    system: tuple[InternVLForConditionalGeneration, FcotvlProcessor],
) -> dict[str, str]:
    teacher, processor = system
    model = teacher
    if exam.ratio:
        model = make_student(teacher, compressor="pool", ratio=exam.ratio, share_frozen=True)
    prompts = params.scale_config.prompts
    asked = [(index, _pick(one, exam.kind, index)) for index, one in enumerate(drawn)]
    shown = [(index + 1) % len(drawn) if exam.blind else index for index, _ in asked]
    queries = [
        Query(partial(_image, drawn[at]), f"{family}-{at}", prompts.ask(turn, exam.mode))
        for at, (_, turn) in zip(shown, asked, strict=True)
    ]
    replies = generate(
        model,
        processor_for(processor, model.config),
        queries,
        max_new_tokens=prompts.max_new_tokens(exam.mode),
        batch_size=params.scale_config.evaluate.batch_size,
        max_tiles=1,
        label=f"{family} {exam.title}",
    )
    answers = [final_answer(reply) for reply in replies]
    return {"family": family, "questions": exam.title, **_scores(answers, asked)}


def _image(drawn: Rendered) -> Image.Image:
    return drawn.image


def _pick(drawn: Rendered, kind: str, index: int) -> Turn:
    turns = [turn for turn in drawn.turns if turn.kind == kind]
    return turns[index % len(turns)]


def _scores(answers: Sequence[str], asked: Sequence[tuple[int, Turn]]) -> dict[str, str]:
    questions = Questions(images=[index for index, _ in asked])
    row = {"n": str(len(asked))}
    for title, name in (("exact match", EXACT), ("ANLS", SIMILAR)):
        rule = metrics.get(name)
        scores = [rule(a, turn.answers) for a, (_, turn) in zip(answers, asked, strict=True)]
        found = mean_interval(scores, questions)
        row[title] = f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
    return row
