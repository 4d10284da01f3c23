"""Stage ``rscot``: rationales by rejection sampling from the teacher, and how many it took."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import PartialState
from tqdm import tqdm

from fcotvl.compress.checkpoints import load_processor, load_teacher
from fcotvl.core.config import Params
from fcotvl.core.errors import DataError
from fcotvl.core.io import atomic, write_json
from fcotvl.core.resume import resumable
from fcotvl.inference.generate import Query, sample
from fcotvl.train.dataset import Corpus
from fcotvl.train.rscot import (
    Question,
    Sampled,
    choose_questions,
    chunks,
    select,
    write_rationales,
)
from fcotvl.train.rscot import (
    acceptance as acceptance_table,
)

log = logging.getLogger(__name__)

CHUNK = 64
"""Questions between two saves."""


def run(params: Params, *, corpus: Path, teacher: Path, rationales: Path, acceptance: Path) -> None:
    """Write one row per kept rationale, and counts per source and kind of question."""
    with resumable("rscot", inputs=[corpus, teacher], cache_key=_cache_key(params)) as folder:
        instruct = Corpus(corpus / "instruct")
        questions = choose_questions(
            instruct, params.scale_config.rscot.questions, params.data_seed
        )
        if not questions:
            raise DataError(f"{corpus} has no question to reason about; add a source that has some")
        draw = _sampler(params, teacher, instruct)
        sampled: list[Sampled] = []
        parts = list(chunks(questions, CHUNK))
        for number, part in enumerate(tqdm(parts, desc="rscot", disable=None)):
            path = folder / f"{number:05d}.json"
            if not path.is_file():
                write_json(path, [asdict(one) for one in draw(part)])
            sampled += [Sampled(**one) for one in json.loads(path.read_text(encoding="utf-8"))]
        kept = sum(len(one.rationales) for one in sampled)
        log.info("%d rationales kept for %d questions", kept, len(sampled))
        if not kept:
            log.warning(
                "no sample ends in a right answer: fine-tuning will see direct answers only"
            )
        with atomic(rationales) as path:
            write_rationales(path, sampled)
        with atomic(acceptance) as path:
            acceptance_table(sampled).to_csv(path, index=False)


def _sampler(
    params: Params, teacher: Path, corpus: Corpus
) -> Callable[[Sequence[Question]], list[Sampled]]:
    """From questions to what sampling finds; a question's draws depend on it alone."""
    at, settings = params.scale_config, params.rscot
    model = load_teacher(teacher, dtype=getattr(torch, at.model.dtype))
    model.to(PartialState().device)
    processor = load_processor(teacher)
    prompts = at.prompts

    def draw(questions: Sequence[Question]) -> list[Sampled]:
        queries = [
            Query(corpus[q.place].decode, q.record_id, prompts.ask(q.turn, "cot"))
            for q in questions
        ]
        replies = sample(
            model,
            processor,
            queries,
            samples=settings.samples,
            temperature=settings.temperature,
            top_k=settings.top_k,
            max_new_tokens=at.prompts.cot_tokens,
            seed=params.data_seed,
            batch_size=at.rscot.batch_size,
            max_tiles=at.model.max_tiles,
        )
        return [
            select(question, texts, cap=settings.max_per_question, similar=settings.min_similarity)
            for question, texts in zip(questions, replies, strict=True)
        ]

    return draw


def _cache_key(params: Params) -> list[object]:
    sections = (
        params.rscot,
        params.scale_config.rscot,
        params.scale_config.model,
        params.scale_config.prompts,
    )
    return [params.data_seed, *(section.model_dump() for section in sections)]
