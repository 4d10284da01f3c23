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
    SamplingResult,
    acceptance_table,
    choose_questions,
    keep_correct,
    write_rationales,
)

logger = logging.getLogger(__name__)

CHUNK = 64
"""Questions between two saves."""


def run(params: Params, *, corpus: Path, teacher: Path, rationales: Path, acceptance: Path) -> None:
    """Write one row per kept rationale, and counts per source and kind of question."""
    with resumable("rscot", inputs=[corpus, teacher], cache_key=_cache_key(params)) as folder:
        instruct = Corpus(corpus / "instruct")
        count = params.scale_config.rscot.questions
        questions = choose_questions(instruct, count, params.data_seed)
        if not questions:
            raise DataError(f"{corpus} has no question to reason about; add a source that has some")
        sample_chunk = _sampler(params, teacher, instruct)
        results: list[SamplingResult] = []
        for start in tqdm(range(0, len(questions), CHUNK), desc="rscot", disable=None):
            path = folder / f"{start:08d}.json"
            if not path.is_file():
                chunk = sample_chunk(questions[start : start + CHUNK])
                write_json(path, [asdict(result) for result in chunk])
            rows = json.loads(path.read_text(encoding="utf-8"))
            results += [SamplingResult(**row) for row in rows]
        kept = sum(len(result.rationales) for result in results)
        logger.info("%d rationales kept for %d questions", kept, len(results))
        if not kept:
            logger.warning("no sample gives a right answer: sft will see direct answers only")
        with atomic(rationales) as path:
            write_rationales(path, results)
        with atomic(acceptance) as path:
            acceptance_table(results).to_csv(path, index=False)


def _sampler(
    params: Params, teacher: Path, corpus: Corpus
) -> Callable[[Sequence[Question]], list[SamplingResult]]:
    """A function that samples the teacher's replies to questions and keeps the correct ones.

    The replies to a question depend on it alone, not on the others of its chunk.
    """
    scale_config = params.scale_config
    prompts, model_params = scale_config.prompts, scale_config.model
    model = load_teacher(teacher, dtype=getattr(torch, model_params.dtype))
    model.to(PartialState().device)
    processor = load_processor(teacher)

    def sample_chunk(questions: Sequence[Question]) -> list[SamplingResult]:
        queries = [
            Query(corpus[q.ref].decode, q.record_id, prompts.ask(q.turn, "cot")) for q in questions
        ]
        replies = sample(
            model,
            processor,
            queries,
            samples=params.rscot.samples,
            temperature=params.rscot.temperature,
            top_k=params.rscot.top_k,
            max_new_tokens=prompts.cot_tokens,
            seed=params.data_seed,
            batch_size=scale_config.rscot.batch_size,
            max_tiles=model_params.max_tiles,
        )
        return [
            keep_correct(
                question,
                texts,
                max_per_question=params.rscot.max_per_question,
                min_similarity=params.rscot.min_similarity,
            )
            for question, texts in zip(questions, replies, strict=True)
        ]

    return sample_chunk


def _cache_key(params: Params) -> list[object]:
    scale_config = params.scale_config
    sections = (params.rscot, scale_config.rscot, scale_config.model, scale_config.prompts)
    return [params.data_seed, *(section.model_dump() for section in sections)]
