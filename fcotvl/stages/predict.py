"""Generate the answers of every system."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.checkpoints import load_processor, load_student, load_teacher, load_tensors, read_student_tensors
from fcotvl.compress.student import FcotvlForConditionalGeneration
from fcotvl.compress.vision_cache import keep_visual_tokens
from fcotvl.core.config import Params
from fcotvl.core.errors import CheckpointError
from fcotvl.core.io import atomic
from fcotvl.core.processes import is_main
from fcotvl.core.resume import resumable
from fcotvl.core.shards import read_records
from fcotvl.evaluate.predict import predict
from fcotvl.inference import pruning
from fcotvl.inference.pruned_decoding import System
from fcotvl.inference.sharing import join

log = logging.getLogger(__name__)

Systems = dict[str, Callable[[], System]]
"""Systems by name, each with a function that makes it ready."""


def run(
    params: Params,
    *,
    benchmarks: Path,
    teacher: Path,
    predictions: Path,
    student: Path | None = None,
    system: str | None = None,
    ratio: float | None = None,
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
        ratio: share of visual tokens removed, for students that serve several (default: the one they were trained as).
    """
    vast = [benchmarks, student] if student else [benchmarks]
    with resumable("predict", inputs=[teacher], vast=vast, cache_key=_cache_key(params, system, ratio)) as folder:
        processor = load_processor(teacher)
        full = load_teacher(teacher, dtype=getattr(torch, params.scale_config.model.dtype)).to(join())
        keep_visual_tokens(full, params.scale_config.launch.vision_cache_gb)
        systems, asked_as = _students(full, student, system, ratio) if student else _training_free(params, full)
        tables = [
            predict(
                systems,
                processor,
                list(read_records(benchmarks / benchmark)),
                benchmark=benchmark,
                prompts=params.scale_config.prompts,
                max_tiles=settings.max_tiles,
                batch_size=params.scale_config.evaluate.batch_size,
                folder=folder / benchmark,
                batch_tokens=params.scale_config.evaluate.batch_tokens,
            )
            for benchmark, settings in params.mix_config.benchmarks.items()
        ]
        if not is_main():
            return
        table = pd.concat(tables, ignore_index=True)
        replies = [table[table.system == asked].assign(system=name) for name, asked in asked_as.items()]
        log.info("asked %s: %d replies", ", ".join(systems), len(table))
        with atomic(predictions) as scratch:
            pd.concat(replies, ignore_index=True).to_parquet(scratch, index=False)


def _cache_key(params: Params, system: str | None, ratio: float | None) -> list[object]:
    scale = params.scale_config
    tiles = {name: settings.max_tiles for name, settings in params.mix_config.benchmarks.items()}
    sections = (params.baselines, scale.model, scale.prompts, scale.evaluate)
    return [system, ratio, tiles, *(section.model_dump() for section in sections)]


def _training_free(params: Params, teacher: InternVLForConditionalGeneration) -> tuple[Systems, dict[str, str]]:
    """The teacher, and the training-free baselines of the study at every ratio."""
    systems = {"teacher": System(teacher)}
    for ratio in params.baselines.ratios:
        for name in params.baselines.methods:
            built = pruning.build(name, teacher, ratio=ratio, layer=params.baselines.fastv_layer)
            systems[f"{name}-r{ratio}"] = built
    return {name: partial(_same, system) for name, system in systems.items()}, {name: name for name in systems}


def _same(system: System) -> System:
    return system


def _students(
    teacher: InternVLForConditionalGeneration, student: Path, system: str | None, ratio: float | None
) -> tuple[Systems, dict[str, str]]:
    """The student of a file, or those of a folder; and under which name each is asked, once for equal files."""
    files = sorted(student.glob("*.safetensors")) if student.is_dir() else [student]
    if not files:
        raise CheckpointError(f"{student} holds no safetensors; run the stage that writes it")
    load, first, asked_as = _StudentLoader(teacher, ratio), dict[str, str](), dict[str, str]()
    systems: Systems = {}
    for file in files[-1:] if system else files:
        name = system or file.stem
        asked_as[name] = first.setdefault(_digest(file), name)
        if asked_as[name] == name:
            systems[name] = partial(load, file)
    return systems, asked_as


class _StudentLoader:
    """One student in memory: files of the same student replace its tensors, others replace it."""

    def __init__(self, teacher: InternVLForConditionalGeneration, ratio: float | None) -> None:
        self._teacher, self._ratio = teacher, ratio
        self._student: FcotvlForConditionalGeneration | None = None
        self._file: Path | None = None
        self._kind: object = None

    def __call__(self, file: Path) -> System:
        if file != self._file:
            tensors, header = read_student_tensors(file)
            kind = (replace(header, stage=""), tensors.keys())
            if self._student is not None and kind == self._kind:
                load_tensors(self._student, tensors, source=str(file))
            else:
                self._student = load_student(self._teacher, [file], ratio=self._ratio)
            self._file, self._kind = file, kind
        return System(self._student)


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read ({error.strerror}); run distill, sft or merge first") from error
