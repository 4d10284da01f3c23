"""Stage ``sft``: post-train a student, keep a pool of checkpoints, losses and sampling weights."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from fcotvl.compress.checkpoints import (
    load_processor,
    load_student,
    load_teacher,
    processor_for,
    save_student_tensors,
)
from fcotvl.compress.student import FcotvlForConditionalGeneration
from fcotvl.core.config import Params
from fcotvl.core.errors import ParamsError
from fcotvl.core.io import atomic
from fcotvl.core.resume import resumable
from fcotvl.train import resampling
from fcotvl.train.dataset import Corpus
from fcotvl.train.loop import is_main, start, train
from fcotvl.train.reader import Reader
from fcotvl.train.rscot import read_rationales
from fcotvl.train.sft import FineTuning, Sft, teacher_reference
from fcotvl.train.sft_datasets import mixture


def run(
    params: Params,
    *,
    corpus: Path,
    rationales: Path,
    teacher: Path,
    student: Path,
    checkpoints: Path,
    losses: Path,
    sampling: Path,
) -> None:
    """Write the pool of ``checkpoints``, ``losses`` and ``sampling`` weights per data set."""
    at = params.scale_config
    with resumable(
        "sft", inputs=[corpus, rationales, teacher, student], cache_key=_cache_key(params)
    ) as folder:
        model, task = prepare(params, corpus, rationales, teacher, student)
        due = due_steps(at.sft.steps, at.sft.checkpoints)

        def keep(step: int) -> None:
            if step in due:
                with atomic(folder / "checkpoints" / f"step-{step:05d}.safetensors") as path:
                    save_student_tensors(model, path, stage="sft")

        task.keep = keep
        log = train(task, at.sft, seed=params.seed, folder=folder, dtype=at.model.dtype)
        if not is_main():
            return
        with atomic(checkpoints) as path:
            shutil.copytree(folder / "checkpoints", path)
        with atomic(losses) as path:
            pd.DataFrame(log).to_csv(path, index=False)
        with atomic(sampling) as path:
            pd.DataFrame(task.trajectory(log, at.sft.steps)).to_csv(path, index=False)


def prepare(
    params: Params, corpus: Path, rationales: Path, teacher: Path, student: Path
) -> tuple[FcotvlForConditionalGeneration, Sft]:
    """The student that will learn, and what it learns from."""
    at, recipe, limits = params.scale_config, params.recipes[params.recipe], params.resampling
    reader = Reader(
        corpus=Corpus(corpus / "instruct"),
        processor=load_processor(teacher),
        prompts=at.prompts,
        max_tiles=at.model.max_tiles,
    )
    kept = read_rationales(rationales) if recipe.cot else {}
    mix = mixture(reader.corpus, kept, cot=recipe.cot, seed=params.seed)
    device = start(at.model.dtype).device
    big = load_teacher(teacher, dtype=getattr(torch, at.model.dtype)).to(device)
    reference = teacher_reference(big, mix, reader)
    model = load_student(big, [student])
    for module in (model.model.compressor, model.model.multi_modal_projector, model.lm_head):
        module.float()
    model.model.language_model.float()
    task = Sft(
        objective=FineTuning(model),
        reader=replace(reader, processor=processor_for(reader.processor, model.config)),
        mixture=mix,
        reference=reference,
        rule=resampling.rule(recipe.resampling),
        settings=resampling.Settings(**limits.model_dump()),
        reweigh=at.sft.reweigh,
        batch_size=at.sft.batch_size,
    )
    return model, task


def due_steps(steps: int, count: int) -> tuple[int, ...]:
    """After which steps ``count`` checkpoints are kept: evenly spaced, the last at the end.

    Raises:
        ParamsError: there are fewer steps than checkpoints.
    """
    if steps < count:
        raise ParamsError(f"sft.steps is {steps}, too few for {count} checkpoints; raise it")
    return tuple(round(steps * k / count) for k in range(1, count + 1))


def _cache_key(params: Params) -> list[object]:
    sections = (
        params.resampling,
        params.scale_config.sft,
        params.scale_config.model,
        params.scale_config.prompts,
    )
    recipe = params.recipes[params.recipe]
    return [params.seed, recipe.cot, recipe.resampling, *(s.model_dump() for s in sections)]
