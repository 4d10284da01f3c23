"""Stage ``speed``: how long student and FastV take, as ratios to the teacher in the same run."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import torch
from accelerate import PartialState

from fcotvl.compress.checkpoints import load_processor, load_student, load_teacher
from fcotvl.core.config import Params
from fcotvl.core.io import atomic
from fcotvl.core.records import Record
from fcotvl.core.shards import read_records
from fcotvl.evaluate.speed import Contender, race
from fcotvl.inference.fastv import Prune


def run(params: Params, *, benchmarks: Path, teacher: Path, student: Path, speed: Path) -> None:
    """Race teacher, student and FastV at the student's ratio, and write ``speed`` as CSV."""
    at = params.scale_config
    whole = load_teacher(teacher, dtype=getattr(torch, at.model.dtype)).to(PartialState().device)
    distilled = load_student(whole, [student], share_frozen=True)
    ratio = distilled.config.ratio
    contenders = [Contender("teacher", whole), Contender("distilled", distilled)]
    if ratio:
        prune = Prune("fastv", ratio, params.baselines.fastv_layer)
        contenders.append(Contender(f"fastv-r{ratio}", whole, prune))
    batches = (  # an optional benchmark may be empty
        (benchmark, list(islice(read_records(benchmarks / name), at.evaluate.speed_batch)))
        for name, benchmark in params.mix_config.benchmarks.items()
    )
    benchmark, records = next(batch for batch in batches if batch[1])
    prompts = at.prompts

    def question(record: Record) -> str:
        return prompts.ask(record.turns[0], "direct")

    table = race(
        contenders,
        load_processor(teacher),
        records,
        question,
        max_tiles=benchmark.max_tiles,
        pairs=at.evaluate.speed_pairs,
    )
    with atomic(speed) as scratch:
        table.to_csv(scratch, index=False, float_format="%.6g")
