"""Generate the answers of every system."""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from accelerate import PartialState
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.checkpoints import load_processor, load_student, load_teacher
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.core.config import Params
from fcotvl.core.errors import CheckpointError
from fcotvl.core.io import atomic
from fcotvl.core.shards import read_records
from fcotvl.evaluate.predict import predict
from fcotvl.inference import pruning
from fcotvl.inference.pruned_decoding import System

log = logging.getLogger(__name__)

Named = tuple[str, str, System]
"""A system's name, a key that systems with equal replies share, and the system."""


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
        benchmarks: a folder of shards for each benchmark of the mix.
        teacher: the teacher's folder.
        predictions: the table to write.
        student: a file of trained tensors, or a folder of them. Without it, the teacher and the training-free baselines
            are asked.
        system: name of the student, which is the last file of the folder. Without it, every file is a system under its
            own name.
    """
    processor = load_processor(teacher)
    full = load_teacher(teacher, dtype=getattr(torch, params.scale_config.model.dtype))
    full = full.to(PartialState().device)
    systems = _students(full, student, system) if student else _training_free(params, full)
    by_key: dict[str, pd.DataFrame] = {}
    tables = []
    for name, key, asked in systems:
        if key not in by_key:
            by_key[key] = _ask(params, asked, name, processor, benchmarks)
        tables.append(by_key[key].assign(system=name))
        log.info("asked %s: %d replies", name, len(tables[-1]))
    with atomic(predictions) as scratch:
        pd.concat(tables, ignore_index=True).to_parquet(scratch, index=False)


def _ask(params: Params, system: System, name: str, processor: FcotvlProcessor, benchmarks: Path) -> pd.DataFrame:
    tables = [
        predict(
            system,
            processor,
            list(read_records(benchmarks / benchmark)),
            name=name,
            benchmark=benchmark,
            prompts=params.scale_config.prompts,
            max_tiles=settings.max_tiles,
            batch_size=params.scale_config.evaluate.batch_size,
        )
        for benchmark, settings in params.mix_config.benchmarks.items()
    ]
    return pd.concat(tables, ignore_index=True)


def _training_free(params: Params, teacher: InternVLForConditionalGeneration) -> Iterator[Named]:
    """Yield the teacher, and every training-free baseline at every ratio."""
    yield "teacher", "teacher", System(teacher)
    for ratio in params.baselines.ratios:
        for baseline in pruning.available():
            name, layer = f"{baseline}-r{ratio}", params.baselines.fastv_layer
            yield name, name, pruning.build(baseline, teacher, ratio=ratio, layer=layer)


def _students(teacher: InternVLForConditionalGeneration, student: Path, system: str | None) -> Iterator[Named]:
    """Yield the student of a file, or those of a folder; equal files have the same key."""
    files = sorted(student.glob("*.safetensors")) if student.is_dir() else [student]
    if not files:
        raise CheckpointError(f"{student} holds no safetensors; run the stage that writes it")
    for file in files[-1:] if system else files:
        yield system or file.stem, _digest(file), System(load_student(teacher, [file]))


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
