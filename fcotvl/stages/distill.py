"""Distil a student: its compressor and projector learn."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from fcotvl.compress import compressors
from fcotvl.compress.checkpoints import load_processor, load_teacher, make_student, save_student_tensors
from fcotvl.compress.tile_complexity import calibrate, mean_removed_ratio
from fcotvl.compress.vision_cache import keep_visual_tokens
from fcotvl.core.config import Params
from fcotvl.core.io import atomic
from fcotvl.core.processes import is_main
from fcotvl.core.resume import resumable, scratch_folder
from fcotvl.train.dataset import Corpus
from fcotvl.train.distill import DistillObjective, DistillTask
from fcotvl.train.loop import train
from fcotvl.train.packing import BatchBuilder
from fcotvl.train.teacher_cache import TeacherCache

logger = logging.getLogger(__name__)

CALIBRATION_PICTURES = 500
"""Pictures behind a threshold, and behind the budget that it reaches on others."""


def run(params: Params, *, corpus: Path, teacher: Path, student: Path, live: Path | None = None, losses: Path) -> None:
    """Write the trained tensors to ``student`` and the losses of each step to ``losses``.

    Args:
        params: the study.
        corpus: the curated corpus; ``align`` is trained on.
        teacher: folder of the teacher.
        student: file of trained tensors to write.
        live: folder of dvclive's curve of the loss, for while it runs (default: none).
        losses: CSV of the losses of each step.
    """
    budget, model = params.scale_config.distill, params.scale_config.model
    optim = budget.on(params.scale_config.launch.distill)
    optim = optim.model_copy(update={"lr": budget.lr_of(params.compressor, params.ratio)})
    with resumable("distill", inputs=[teacher], vast=[corpus], cache_key=_cache_key(params)) as folder:
        task = _task(params, corpus, teacher)
        strategy = params.scale_config.launch.strategy
        log = train(task, optim, seed=params.seed, folder=folder, dtype=model.dtype, strategy=strategy, live=live)
        save_student_tensors(task.objective.student, student, stage="distill", dtype=getattr(torch, model.dtype))
        if not is_main():
            return
        with atomic(losses) as path:
            pd.DataFrame(log).to_csv(path, index=False)


def _task(params: Params, corpus: Path, teacher: Path) -> DistillTask:
    """A new student of the teacher, and the alignment split that it is trained on."""
    scale_config = params.scale_config
    align, processor = Corpus(corpus / "align"), load_processor(teacher)
    tiles, length = scale_config.model.max_tiles, scale_config.distill.max_length
    builder = BatchBuilder(align, processor, scale_config.prompts, tiles, length)
    teacher_model = load_teacher(teacher, dtype=getattr(torch, scale_config.model.dtype))
    keep_visual_tokens(teacher_model, scale_config.launch.vision_cache_gb)
    student_model = make_student(
        teacher_model,
        compressor=params.compressor,
        ratio=params.ratio,
        options=_compressor_options(params, builder, corpus / "val"),
        positions=params.distill.positions,
        seed=params.seed,
        share_frozen=True,
    )
    student_model.model.compressor.float()
    student_model.model.multi_modal_projector.float()
    kept = scale_config.launch.teacher_cache_gb
    cache = TeacherCache(teacher_model, scratch_folder() / "teacher", kept) if kept else None
    return DistillTask(
        objective=DistillObjective(teacher_model, student_model, params.distill, cache),
        builder=builder.for_student(student_model.config),
        batch_size=scale_config.distill.batch_size,
        seed=params.seed,
    )


def _compressor_options(params: Params, align: BatchBuilder, val: Path) -> dict[str, Any]:
    """The compressor's options; with a threshold, if it needs one that params.yaml does not give.

    The threshold is calibrated on corpus/align. The share of visual tokens that it removes from corpus/val, which it
    has not seen, is logged.
    """
    options: dict[str, Any] = dict(params.compressors.get(params.compressor, {}))
    ratios = compressors.tile_ratios(params.compressor, params.ratio)
    if len(ratios) > 1:
        if "threshold" not in options:
            complexities = align.tile_complexities(CALIBRATION_PICTURES)
            options["threshold"] = calibrate(complexities, params.ratio, ratios)
        unseen = replace(align, corpus=Corpus(val)).tile_complexities(CALIBRATION_PICTURES)
        logger.info(
            "tiles of complexity below %.4g lose %g of their visual tokens, others %g: %.3f of "
            "those of corpus/val on average (n = %d tiles; the budget is %g)",
            options["threshold"],
            *reversed(ratios),
            mean_removed_ratio(unseen, options["threshold"], ratios),
            len(unseen),
            params.ratio,
        )
    return options


def _cache_key(params: Params) -> list[object]:
    scale_config = params.scale_config
    sections = (params.distill, scale_config.distill, scale_config.model, scale_config.prompts)
    named = (params.compressor, params.ratio, params.seed, params.compressors)
    return [*named, *(section.model_dump() for section in sections)]
