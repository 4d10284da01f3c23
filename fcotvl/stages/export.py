"""Export a student as a folder for transformers."""

import logging
from pathlib import Path

import torch

from fcotvl.compress.checkpoints import load_processor, load_student, load_teacher, read_student_tensors
from fcotvl.core.config import Params
from fcotvl.core.errors import CheckpointError
from fcotvl.core.io import atomic
from fcotvl.export.export import export_student

log = logging.getLogger(__name__)


def run(params: Params, *, teacher: Path, student: tuple[Path, ...], folder: Path, ratio: float | None = None) -> None:
    """Write teacher and trained tensors as one model to ``folder``, with its card.

    Args:
        params: the study; its scale sets the data type, and the prompts that the card shows.
        teacher: the teacher's folder.
        student: files of trained tensors, or folders of one each; later ones replace tensors of earlier ones.
        folder: the folder to write, for ``from_pretrained``.
        ratio: share of visual tokens removed, for a student that serves several (default: the one it was trained as).

    Raises:
        CheckpointError: a folder holds no file of trained tensors, or several to choose from, or the student does not
            serve ``ratio``.
    """
    files = [_file(path) for path in student]
    full = load_teacher(teacher, dtype=getattr(torch, params.scale_config.model.dtype))
    model = load_student(full, files, ratio=ratio, share_frozen=True)
    _, header = read_student_tensors(files[-1])
    name = f"{header.compressor} {model.config.ratio} of {params.scale}"
    with atomic(folder) as scratch:
        export_student(
            model, load_processor(teacher), scratch, name=name, stage=header.stage, prompts=params.scale_config.prompts
        )
    log.info("wrote %s", folder)


def _file(path: Path) -> Path:
    """``path``, or the one file of trained tensors in it."""
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.safetensors"))
    if not found:
        raise CheckpointError(f"{path} holds no safetensors; run the stage that writes it")
    if len(found) > 1:
        one = next((file for file in found if file.stem == "merged"), found[-1])
        names = ", ".join(file.stem for file in found)
        raise CheckpointError(f"{path} holds {len(found)} students ({names}); give one of them, such as {one}")
    return found[0]
