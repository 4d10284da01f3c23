"""Stage ``distill``: a student whose compressor and projector agree with the teacher."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from fcotvl.compress import compressors
from fcotvl.compress.checkpoints import (
    load_processor,
    load_teacher,
    make_student,
    processor_for,
    save_student_tensors,
)
from fcotvl.compress.tile_complexity import calibrate, mean_removed_ratio
from fcotvl.core.config import Params
from fcotvl.core.io import atomic
from fcotvl.core.resume import resumable
from fcotvl.train.dataset import Corpus
from fcotvl.train.distill import Distill, Distillation
from fcotvl.train.loop import is_main, train
from fcotvl.train.reader import Reader

log = logging.getLogger(__name__)

CALIBRATED = 500
"""Pictures behind a threshold, and behind the budget that it reaches on others."""


def run(params: Params, *, corpus: Path, teacher: Path, student: Path, losses: Path) -> None:
    """Write the tensors that learned to ``student`` and the losses per step to ``losses``."""
    at = params.scale_config
    with resumable("distill", inputs=[corpus, teacher], cache_key=_cache_key(params)) as folder:
        reader = Reader(
            corpus=Corpus(corpus / "align"),
            processor=load_processor(teacher),
            prompts=at.prompts,
            max_tiles=at.model.max_tiles,
        )
        big = load_teacher(teacher, dtype=getattr(torch, at.model.dtype))
        small = make_student(
            big,
            compressor=params.compressor,
            ratio=params.ratio,
            options=_options(params, reader, corpus / "val"),
            seed=params.seed,
            share_frozen=True,
        )
        for module in (small.model.compressor, small.model.multi_modal_projector):
            module.float()
        task = Distill(
            objective=Distillation(big, small, params.distill),
            reader=replace(reader, processor=processor_for(reader.processor, small.config)),
            batch_size=at.distill.batch_size,
            seed=params.seed,
        )
        rows = train(task, at.distill, seed=params.seed, folder=folder, dtype=at.model.dtype)
        if not is_main():
            return
        with atomic(student) as path:
            save_student_tensors(small, path, stage="distill")
        with atomic(losses) as path:
            pd.DataFrame(rows).to_csv(path, index=False)


def _options(params: Params, align: Reader, val: Path) -> dict[str, Any]:
    """The compressor's options; with a threshold, if it needs one that params.yaml does not give.

    It is calibrated on corpus/align, and what it removes of corpus/val, which it has not seen, is
    logged.
    """
    options: dict[str, Any] = dict(params.compressors.get(params.compressor, {}))
    ratios = compressors.tile_ratios(params.compressor, params.ratio)
    if len(ratios) > 1:
        if "threshold" not in options:
            options["threshold"] = calibrate(align.details(CALIBRATED), params.ratio, ratios)
        unseen = replace(align, corpus=Corpus(val)).details(CALIBRATED)
        log.info(
            "tiles of detail below %.4g lose %g of their visual tokens, others %g: %.3f of those "
            "of corpus/val on average (n = %d tiles; the budget is %g)",
            options["threshold"],
            *reversed(ratios),
            mean_removed_ratio(unseen, options["threshold"], ratios),
            len(unseen),
            params.ratio,
        )
    return options


def _cache_key(params: Params) -> list[object]:
    sections = (
        params.distill,
        params.scale_config.distill,
        params.scale_config.model,
        params.scale_config.prompts,
    )
    named = (params.compressor, params.ratio, params.seed, params.compressors)
    return [*named, *(section.model_dump() for section in sections)]
