"""Post-train a student on direct answers and rationales."""

import shutil
from pathlib import Path

import pandas as pd
import torch

from fcotvl.compress.checkpoints import load_processor, load_student, load_teacher, save_student_tensors
from fcotvl.compress.vision_cache import keep_visual_tokens
from fcotvl.core.config import Params
from fcotvl.core.errors import CheckpointError
from fcotvl.core.io import atomic
from fcotvl.core.processes import is_main
from fcotvl.core.resume import resumable
from fcotvl.train import resampling
from fcotvl.train.dataset import Corpus
from fcotvl.train.loop import make_accelerator, train
from fcotvl.train.packing import BatchBuilder
from fcotvl.train.rscot import read_rationales
from fcotvl.train.sft import SftObjective, SftTask, teacher_reference
from fcotvl.train.sft_datasets import SftDatasets


def run(
    params: Params,
    *,
    corpus: Path,
    rationales: Path,
    teacher: Path,
    student: Path,
    checkpoints: Path,
    live: Path | None = None,
    losses: Path,
    sampling: Path,
) -> None:
    """Write the pool of ``checkpoints``, ``losses`` and ``sampling`` weights per data set.

    Args:
        params: the study.
        corpus: the curated corpus; ``instruct`` is trained on.
        rationales: table of rationales, written by ``rscot``.
        teacher: folder of the teacher.
        student: tensors of the distilled student.
        checkpoints: folder of the checkpoints to keep.
        live: folder of dvclive's curve of the loss, for while it runs (default: none).
        losses: CSV of the losses of each step and data set.
        sampling: CSV of the sampling weights of data sets.
    """
    budget, model = params.sft_budget(params.recipe), params.scale_config.model
    optim = budget.on(params.scale_config.launch.sft)
    optim = optim.model_copy(update={"schedule": params.recipes[params.recipe].schedule})
    inputs = [rationales, teacher, student]
    with resumable("sft", inputs=inputs, vast=[corpus], cache_key=_cache_key(params)) as folder:
        task = _task(params, corpus, rationales, teacher, student)
        pool = {step: folder / f"{name}.safetensors" for name, step in budget.checkpoint_steps.items()}

        def save_if_due(step: int) -> None:
            if step in pool:
                dtype = getattr(torch, model.dtype)
                save_student_tensors(task.objective.student, pool[step], stage="sft", dtype=dtype)

        task.on_step_end = save_if_due
        strategy = params.scale_config.launch.strategy
        log = train(task, optim, seed=params.seed, folder=folder, dtype=model.dtype, strategy=strategy, live=live)
        if not is_main():
            return
        if missing := [file for file in pool.values() if not file.is_file()]:
            raise CheckpointError(f"{missing[0]} is missing; delete {folder} and run sft again")
        with atomic(checkpoints) as path:
            path.mkdir()
            for file in pool.values():
                shutil.copy(file, path)
        with atomic(losses) as path:
            pd.DataFrame(log).to_csv(path, index=False)
        with atomic(sampling) as path:
            pd.DataFrame(task.trajectory(log, optim.steps)).to_csv(path, index=False)


def _task(params: Params, corpus: Path, rationales: Path, teacher: Path, student: Path) -> SftTask:
    """The student that is trained, and the data sets of the instruction split."""
    scale_config, recipe = params.scale_config, params.recipes[params.recipe]
    instruct, processor = Corpus(corpus / "instruct"), load_processor(teacher)
    tiles, length = scale_config.model.max_tiles, scale_config.sft.max_length
    builder = BatchBuilder(instruct, processor, scale_config.prompts, tiles, length)
    kept = read_rationales(rationales, recipe.rationales) if recipe.cot else {}
    datasets = SftDatasets.from_corpus(instruct, kept, cot=recipe.cot, seed=params.seed, sources=recipe.sources)
    dtype = scale_config.model.dtype
    teacher_model = load_teacher(teacher, dtype=getattr(torch, dtype))
    teacher_model.to(make_accelerator(dtype).device)
    keep_visual_tokens(teacher_model, scale_config.launch.vision_cache_gb)
    reference = teacher_reference(teacher_model, datasets, builder, scale_config.launch.sft.micro_batch_tokens)
    if scale_config.launch.strategy == "fsdp":
        teacher_model.cpu()  # from where both models are sharded: whole, they do not fit an accelerator
    # Its weights are not copied where no loss asks the teacher again.
    student_model = load_student(teacher_model, [student], share_frozen=not recipe.asks_teacher)
    inner = student_model.model
    for module in (inner.compressor, inner.multi_modal_projector, inner.language_model):
        module.float()
    student_model.lm_head.float()
    return SftTask(
        objective=SftObjective(student_model, teacher_model, recipe),
        builder=builder.for_student(student_model.config),
        datasets=datasets,
        reference=reference,
        rule=resampling.get(recipe.resampling),
        limits=params.resampling,
        reweigh=scale_config.sft.reweigh,
        batch_size=scale_config.sft.batch_size,
    )


def _cache_key(params: Params) -> list[object]:
    scale_config, recipe = params.scale_config, params.recipes[params.recipe]
    budget = params.sft_budget(params.recipe)
    sections = (recipe, params.resampling, budget, scale_config.model, scale_config.prompts)
    return [params.seed, *(section.model_dump() for section in sections)]
