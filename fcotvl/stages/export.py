"""Export a student as a folder for transformers."""

import logging
from pathlib import Path

import torch

from fcotvl.compress.checkpoints import load_processor, load_student, load_teacher, read_student_tensors
from fcotvl.core.config import Params
from fcotvl.core.io import atomic
from fcotvl.export.export import export_student

log = logging.getLogger(__name__)


def run(params: Params, *, teacher: Path, student: tuple[Path, ...], folder: Path) -> None:
    """Write teacher and trained tensors as one model to ``folder``, with its card.

    Args:
        params: the study; its scale sets the data type.
        teacher: the teacher's folder.
        student: files of trained tensors; later ones replace tensors of earlier ones.
        folder: the folder to write, for ``from_pretrained``.
    """
    full = load_teacher(teacher, dtype=getattr(torch, params.scale_config.model.dtype))
    model = load_student(full, list(student), share_frozen=True)
    _, header = read_student_tensors(student[-1])
    name = f"{header.compressor} {header.ratio} of {params.scale}"
    with atomic(folder) as scratch:
        export_student(model, load_processor(teacher), scratch, name=name, stage=header.stage)
    log.info("wrote %s", folder)
