"""Sample rationales from the teacher and keep the right ones."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from fcotvl.compress.checkpoints import load_processor, load_teacher
from fcotvl.compress.vision_cache import keep_visual_tokens
from fcotvl.core.config import Params
from fcotvl.core.errors import DataError
from fcotvl.core.io import atomic
from fcotvl.core.processes import is_main
from fcotvl.core.prompts import Prompts
from fcotvl.core.resume import resumable
from fcotvl.inference.generate import Query, sample, window_size
from fcotvl.inference.sharing import join, share
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


def run(params: Params, *, corpus: Path, teacher: Path, rationales: Path, acceptance: Path) -> None:
    """Write the kept rationales, as many samples that were not checked, and counts per source and kind of question.

    Args:
        params: the study.
        corpus: the curated corpus; questions come from ``instruct``.
        teacher: folder of the teacher.
        rationales: table to write: one row per rationale.
        acceptance: CSV of counts per source and kind of question.
    """
    scale_config = params.scale_config
    with resumable("rscot", inputs=[teacher], vast=[corpus], cache_key=_cache_key(params)) as folder:
        instruct = Corpus(corpus / "instruct")
        questions = choose_questions(instruct, scale_config.rscot.questions, params.data_seed)
        if not questions:
            raise DataError(f"{corpus} has no question to reason about; add a source that has some")
        sample_teacher = _sampler(params, teacher)
        size = window_size(scale_config.rscot.batch_size, scale_config.rscot.samples)
        windows = [questions[start : start + size] for start in range(0, len(questions), size)]

        def kept(number: int) -> list[dict[str, object]]:
            """The results of a window, as JSON has them."""
            replies = sample_teacher([_query(q, instruct, scale_config.prompts) for q in windows[number]])
            pairs = zip(windows[number], replies, strict=True)
            return [asdict(keep_correct(question, texts, params.rscot)) for question, texts in pairs]

        shared = share(folder, len(windows), kept, label="rscot")
        results = [SamplingResult(**row) for rows in shared for row in rows]
        if not is_main():
            return
        count = sum(len(result.rationales["accepted"]) for result in results)
        logger.info("%d rationales kept for %d questions", count, len(results))
        if not count:
            logger.warning("no sample gives a right answer: sft will see direct answers only")
        with atomic(rationales) as path:
            write_rationales(path, results)
        with atomic(acceptance) as path:
            acceptance_table(results).to_csv(path, index=False)


def _query(question: Question, corpus: Corpus, prompts: Prompts) -> Query:
    picture = corpus[question.ref].decode
    return Query(picture, question.record_id, prompts.ask(question.turn, "cot"))


def _sampler(params: Params, teacher: Path) -> Callable[[Sequence[Query]], list[list[str]]]:
    """A function that samples the teacher's replies; those to a query depend on it alone."""
    scale_config = params.scale_config
    model = load_teacher(teacher, dtype=getattr(torch, scale_config.model.dtype))
    model.to(join())
    keep_visual_tokens(model, scale_config.launch.vision_cache_gb)
    return partial(
        sample,
        model,
        load_processor(teacher),
        samples=scale_config.rscot.samples,
        temperature=params.rscot.temperature,
        top_k=params.rscot.top_k,
        max_new_tokens=scale_config.prompts.cot_tokens,
        seed=params.data_seed,
        batch_size=scale_config.rscot.batch_size,
        batch_tokens=scale_config.rscot.batch_tokens,
        max_tiles=scale_config.model.max_tiles,
        label=None,
    )


def _cache_key(params: Params) -> list[object]:
    scale_config = params.scale_config
    sections = (params.rscot, scale_config.rscot, scale_config.model, scale_config.prompts)
    return [params.data_seed, *(section.model_dump() for section in sections)]
