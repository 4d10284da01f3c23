"""Measure how the layers attend to the picture."""

import logging
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from fcotvl.compress.checkpoints import load_processor, load_student, load_teacher, processor_for
from fcotvl.compress.vision_cache import keep_visual_tokens
from fcotvl.core.config import Params
from fcotvl.core.errors import CheckpointError, DataError
from fcotvl.core.io import atomic
from fcotvl.core.prompts import MODES
from fcotvl.core.records import balanced
from fcotvl.core.shards import read_records
from fcotvl.evaluate.attention import Reading, read
from fcotvl.evaluate.scoring import read_predictions
from fcotvl.inference.sharing import join

log = logging.getLogger(__name__)

COLUMNS = ["benchmark", "prompt", "kind", "image_id", "question_id", *Reading._fields]


def run(
    params: Params,
    *,
    benchmarks: Path,
    teacher: Path,
    predictions: Path,
    output: Path,
    student: Path | None = None,
    ratio: float | None = None,
    questions: int = 100,
) -> None:
    """Measure, layer by layer, how teacher or student attends to the picture while it writes the teacher's replies.

    Args:
        params: the study.
        benchmarks: folder of the benchmarks' questions.
        teacher: folder of the teacher.
        predictions: table of replies, the teacher's among them.
        output: Parquet table to write, a row for each question, prompt, part of the reply and layer.
        student: tensors of a student, or a folder of them, of which the last counts (default: the teacher is measured).
        ratio: share of visual tokens removed, for a student that serves several (default: the one it was trained as).
        questions: how many of each benchmark, as many of each kind as there are. A hundred tell a few points apart, and
            take seconds.
    """
    table = read_predictions(predictions).query("system == 'teacher'")
    replies = table.set_index(["benchmark", "prompt", "question_id"])["prediction"]
    model = load_teacher(teacher, dtype=getattr(torch, params.scale_config.model.dtype)).to(join())
    keep_visual_tokens(model, params.scale_config.launch.vision_cache_gb)
    if student:
        model = load_student(model, [_last(student)], ratio=ratio)
    model.eval()
    processor, rows = processor_for(load_processor(teacher), model.config), []
    for name, settings in params.mix_config.benchmarks.items():
        asked = [(record, turn) for record in read_records(benchmarks / name) for turn in record.turns]
        chosen = balanced(asked, questions, 0, lambda one: (one[1].kind, one[1].id))
        for record, turn in tqdm(chosen, desc=name, disable=None):
            for prompt in MODES:
                if (name, prompt, turn.id) not in replies.index:
                    raise DataError(
                        f"{predictions} has no reply of the teacher to {turn.id} of {name} under {prompt}; give the "
                        "table that predict wrote without a student"
                    )
                words = params.scale_config.prompts.ask(turn, prompt)
                reply = str(replies[name, prompt, turn.id])
                found = read(model, processor, record, words, reply, max_tiles=settings.max_tiles)
                rows += [(name, prompt, turn.kind, record.sha256, turn.id, *reading) for reading in found]
    table = pd.DataFrame(rows, columns=COLUMNS)
    log.info("%d questions", table["question_id"].nunique())
    with atomic(output) as scratch:
        table.to_parquet(scratch, index=False)


def _last(student: Path) -> Path:
    """The file, or the last one of the folder."""
    files = sorted(student.glob("*.safetensors")) if student.is_dir() else [student]
    if not files:
        raise CheckpointError(f"{student} holds no safetensors; run the stage that writes it")
    return files[-1]
