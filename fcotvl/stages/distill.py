"""Stage ``distill``: a student whose compressor and projector agree with the teacher."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import torch

from fcotvl.files import atomic, digest, scratch
from fcotvl.models.checkpoints import load_processor, load_teacher, make_student, save_trained
from fcotvl.params import Params
from fcotvl.prompts import Prompts
from fcotvl.train.corpus import Corpus
from fcotvl.train.distill import Distill, Distillation
from fcotvl.train.loop import is_main, train
from fcotvl.train.reader import Reader

PACKAGE = Path(__file__).parents[1]


def run(params: Params, *, corpus: Path, teacher: Path, student: Path, losses: Path) -> None:
    """Write the tensors that learned to ``student`` and the losses per step to ``losses``."""
    at = params.at
    folder = scratch("distill", digest([corpus, teacher, PACKAGE], _knobs(params)))
    big = load_teacher(teacher, dtype=getattr(torch, at.model.dtype))
    small = make_student(
        big,
        compressor=params.compressor,
        ratio=params.ratio,
        options=params.compressors.get(params.compressor),
        seed=params.seed,
        share=True,
    )
    for module in (small.model.compressor, small.model.multi_modal_projector):
        module.float()
    task = Distill(
        objective=Distillation(big, small, params.distill),
        reader=Reader(
            corpus=Corpus(corpus / "align"),
            processor=load_processor(teacher),
            prompts=Prompts(at.prompts.direct, at.prompts.cot),
            max_tiles=at.model.max_tiles,
        ),
        batch_size=at.distill.batch_size,
        seed=params.seed,
    )
    log = train(task, at.distill, seed=params.seed, folder=folder, dtype=at.model.dtype)
    if not is_main():
        return
    with atomic(student) as path:
        save_trained(small, path, stage="distill")
    with atomic(losses) as path:
        pd.DataFrame(log).to_csv(path, index=False)
    shutil.rmtree(folder)


def _knobs(params: Params) -> list[object]:
    sections = (params.distill, params.at.distill, params.at.model, params.at.prompts)
    named = (params.compressor, params.ratio, params.seed, params.compressors)
    return [*named, *(section.model_dump() for section in sections)]
