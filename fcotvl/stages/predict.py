"""Stage ``predict``: the answers of every system, kept apart from their scores."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from accelerate import PartialState
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.checkpoints import load_processor, load_student, load_teacher, make_student
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.core.config import Params
from fcotvl.core.errors import CheckpointError
from fcotvl.core.io import atomic
from fcotvl.core.shards import read_records
from fcotvl.evaluate.predict import Asking, predict
from fcotvl.inference.fastv import Prune

log = logging.getLogger(__name__)

Kind = Literal["fastv", "random"]


@dataclass(frozen=True)
class System:
    """A model under a name, and whether it is pruned."""

    name: str
    model: InternVLForConditionalGeneration
    key: str
    """Systems of the same key give the same answers and are asked once."""
    prune: Prune | None = None


def run(
    params: Params,
    *,
    benchmarks: Path,
    teacher: Path,
    predictions: Path,
    student: Path | None = None,
    system: str | None = None,
) -> None:
    """Ask all questions of ``benchmarks`` and write the replies to ``predictions``.

    Args:
        params: the study.
        benchmarks: a folder of shards for each benchmark of the scale.
        teacher: the teacher's folder.
        predictions: the table to write.
        student: trained tensors: one file, or a folder of them. Without it, the teacher and the
            training-free systems are asked.
        system: a name for the student, which is the last file of the folder. Without it, every
            file is a system under its own name.
    """
    processor = load_processor(teacher)
    whole = load_teacher(teacher, dtype=getattr(torch, params.scale_config.model.dtype))
    whole = whole.to(PartialState().device)
    systems = _students(whole, student, system) if student else _training_free(params, whole)
    answered: dict[str, pd.DataFrame] = {}
    tables = []
    for asked in systems:
        if asked.key not in answered:
            answered[asked.key] = _ask(params, asked, processor, benchmarks)
        tables.append(answered[asked.key].assign(system=asked.name))
        log.info("asked %s: %d replies", asked.name, len(tables[-1]))
    with atomic(predictions) as scratch:
        pd.concat(tables, ignore_index=True).to_parquet(scratch, index=False)


def _ask(
    params: Params, asked: System, processor: FcotvlProcessor, benchmarks: Path
) -> pd.DataFrame:
    prompts = params.scale_config.prompts
    tables = [
        predict(
            asked.model,
            processor,
            list(read_records(benchmarks / name)),
            system=asked.name,
            benchmark=name,
            asking=Asking(
                prompts,
                benchmark.max_tiles,
                params.scale_config.evaluate.batch_size,
            ),
            prune=asked.prune,
        )
        for name, benchmark in params.mix_config.benchmarks.items()
    ]
    return pd.concat(tables, ignore_index=True)


def _training_free(params: Params, teacher: InternVLForConditionalGeneration) -> Iterator[System]:
    """The teacher, and it with fewer visual tokens and no training at all."""
    yield System("teacher", teacher, "teacher")
    for ratio in params.baselines.ratios:
        kinds: tuple[Kind, ...] = ("fastv", "random")
        for kind in kinds:
            prune = Prune(kind, ratio, params.baselines.fastv_layer)
            yield System(f"{kind}-r{ratio}", teacher, f"{kind}-r{ratio}", prune)
        pooled = make_student(teacher, compressor="pool", ratio=ratio, share_frozen=True)
        yield System(f"untrained-pool-r{ratio}", pooled, f"pool-r{ratio}")


def _students(
    teacher: InternVLForConditionalGeneration, student: Path, system: str | None
) -> Iterator[System]:
    """The student of a file, or those of a folder; equal files are one system under two names."""
    files = sorted(student.glob("*.safetensors")) if student.is_dir() else [student]
    if not files:
        raise CheckpointError(f"{student} holds no safetensors; run the stage that writes it")
    for file in files[-1:] if system else files:
        yield System(system or file.stem, load_student(teacher, [file]), _bytes(file))


def _bytes(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
