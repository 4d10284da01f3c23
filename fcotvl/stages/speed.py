"""Time student and FastV against the teacher."""

from itertools import islice
from pathlib import Path

import torch

from fcotvl.compress.checkpoints import load_processor, load_student, load_teacher
from fcotvl.core.config import Params
from fcotvl.core.io import atomic
from fcotvl.core.shards import read_records
from fcotvl.evaluate.speed import measure_speed
from fcotvl.inference import pruning
from fcotvl.inference.pruned_decoding import System
from fcotvl.inference.sharing import join


def run(
    params: Params, *, benchmarks: Path, teacher: Path, student: Path, speed: Path, ratio: float | None = None
) -> None:
    """Time teacher, student and FastV at the student's ratio, and write ``speed`` as CSV.

    Args:
        params: the study.
        benchmarks: folder of the benchmarks' questions.
        teacher: folder of the teacher.
        student: tensors of the distilled student.
        speed: CSV of times and ratios to write.
        ratio: share of visual tokens removed, for a student that serves several (default: the one it was trained as).
    """
    scale = params.scale_config
    full = load_teacher(teacher, dtype=getattr(torch, scale.model.dtype)).to(join())
    distilled = load_student(full, [student], ratio=ratio, share_frozen=True)
    ratio, layer = distilled.config.ratio, params.baselines.fastv_layer
    systems = {"teacher": System(full), "distilled": System(distilled)}
    if ratio:
        systems[f"fastv-r{ratio}"] = pruning.build("fastv", full, ratio=ratio, layer=layer)
    batches = (  # an optional benchmark may be empty
        (benchmark, list(islice(read_records(benchmarks / name), scale.evaluate.speed_batch)))
        for name, benchmark in params.mix_config.benchmarks.items()
    )
    benchmark, records = next(batch for batch in batches if batch[1])
    table = measure_speed(
        systems,
        load_processor(teacher),
        records,
        lambda record: scale.prompts.ask(record.turns[0], "direct"),
        max_tiles=benchmark.max_tiles,
        pairs=scale.evaluate.speed_pairs,
    )
    with atomic(speed) as scratch:
        table.to_csv(scratch, index=False, float_format="%.6g")
