"""Score a teacher on held-out renders, for its model card."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.checkpoints import load_processor, load_teacher, make_student, processor_for
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.core.answers import final_answer
from fcotvl.core.bootstrap import Questions, mean_interval
from fcotvl.core.config import Params
from fcotvl.core.errors import ParamsError
from fcotvl.core.geometry import RATIOS
from fcotvl.core.io import write_text
from fcotvl.core.records import Turn
from fcotvl.evaluate import metrics
from fcotvl.inference.generate import Query, generate
from fcotvl.toy.render import FAMILIES, Rendered, render

log = logging.getLogger(__name__)

SEED = 2000
"""Seed of the held-out pictures, which no stage and no training uses."""
METRICS = {"exact match": "exact_match", "ANLS": "anls"}


@dataclass(frozen=True)
class Setting:
    """One row of the card per family: which questions, how they are asked, and the pictures."""

    title: str
    kind: str
    mode: str
    pictures: int
    ratio: float = 0.0
    """Share of visual tokens that untrained pooling removes."""
    blind: bool = False
    """Show another picture of the same family."""


def settings(pictures: int) -> tuple[Setting, ...]:
    """All rows of the card; controls use a quarter of the pictures."""
    control = max(2, pictures // 4)
    pooled = [Setting(f"untrained pooling {ratio}", "extractive", "direct", control, ratio) for ratio in RATIOS[1:]]
    return (
        Setting("extractive, direct", "extractive", "direct", pictures),
        Setting("extractive, CoT", "extractive", "cot", control),
        Setting("reasoning, CoT", "reason", "cot", pictures),
        Setting("reasoning, direct", "reason", "direct", control),
        Setting("blind: extractive, direct", "extractive", "direct", control, blind=True),
        *pooled,
    )


def run(params: Params, *, teacher: Path, card: Path, pictures: int = 1000) -> None:
    """Write a table of scores with 95 % intervals to ``card``.

    Args:
        params: prompts and reply lengths come from its scale.
        teacher: folder of the checkpoint.
        card: the Markdown file to write.
        pictures: number of pictures per family.
    """
    least = 2  # the blind row shows another picture
    if pictures < least:
        raise ParamsError(f"--pictures is {pictures}; expected {least} or more")
    checkpoint = load_teacher(teacher), load_processor(teacher)
    rows = []
    for family in FAMILIES:
        rendered = [render(family, "test", index, SEED) for index in range(pictures)]
        for setting in settings(pictures):
            row = evaluate(params, setting, family, rendered[: setting.pictures], checkpoint)
            log.info("%s, %s: %s", family, setting.title, row)
            rows.append(row)
    table = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
    write_text(card, f"{table}\n")


def evaluate(
    params: Params,
    setting: Setting,
    family: str,
    rendered: Sequence[Rendered],
    checkpoint: tuple[InternVLForConditionalGeneration, FcotvlProcessor],
) -> dict[str, str]:
    """Ask one question about each picture and return a row of the card."""
    model, processor = checkpoint
    if setting.ratio:
        model = make_student(model, compressor="pool", ratio=setting.ratio, share_frozen=True)
    prompts = params.scale_config.prompts
    turns = [_pick(picture, setting.kind, index) for index, picture in enumerate(rendered)]
    queries = []
    for index, turn in enumerate(turns):
        shown = (index + 1) % len(rendered) if setting.blind else index
        image = partial(getattr, rendered[shown], "image")
        queries.append(Query(image, f"{family}-{shown}", prompts.ask(turn, setting.mode)))
    replies = generate(
        model,
        processor_for(processor, model.config),
        queries,
        max_new_tokens=prompts.max_new_tokens(setting.mode),
        batch_size=params.scale_config.evaluate.batch_size,
        batch_tokens=params.scale_config.evaluate.batch_tokens,
        max_tiles=1,
        label=f"{family} {setting.title}",
    )
    answers = [final_answer(reply) for reply in replies]
    return {"family": family, "questions": setting.title, **_scores(answers, turns)}


def _pick(picture: Rendered, kind: str, index: int) -> Turn:
    turns = [turn for turn in picture.turns if turn.kind == kind]
    return turns[index % len(turns)]


def _scores(answers: Sequence[str], turns: Sequence[Turn]) -> dict[str, str]:
    questions = Questions(images=list(range(len(turns))))
    row = {"n": str(len(turns))}
    for title, name in METRICS.items():
        score = metrics.get(name)
        scores = [score(a, turn.answers) for a, turn in zip(answers, turns, strict=True)]
        mean = mean_interval(scores, questions)
        row[title] = f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"
    return row
