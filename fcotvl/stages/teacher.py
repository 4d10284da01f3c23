"""Stage ``teacher``: bundled, trained from nothing or fetched from the hub, in one layout."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from fcotvl.core.config import Params
from fcotvl.core.errors import CheckpointError, ParamsError
from fcotvl.core.io import atomic
from fcotvl.core.resume import resumable
from fcotvl.internvl.convert import from_original
from fcotvl.toy.teacher.recipe import TeacherBudget, save_teacher, train_teacher

log = logging.getLogger(__name__)

CARD = "README.md"
FETCHED = ["*.safetensors", "*.json", "*.model", "*.txt"]
"""Weights, configs and tokenizer of a checkpoint on the hub; not its Python files."""


def run(params: Params, *, bundled: Path, teacher: Path) -> None:
    """Put the teacher of the scale into the folder ``teacher``.

    Args:
        params: the study.
        bundled: folder of the teacher that is part of the repository.
        teacher: folder to write.

    Raises:
        CheckpointError: the bundled teacher is not there, or the hub cannot be reached.
        ParamsError: the training budget has an unknown key.
    """
    if params.teacher.source == "train":
        _train(params, teacher)
    elif params.scale_config.model.hub is None:
        _copy(bundled, teacher)
    else:
        _fetch(params.scale_config.model.hub, params.scale_config.model.revision, teacher)


def _copy(bundled: Path, teacher: Path) -> None:
    if not (bundled / "model.safetensors").is_file():
        raise CheckpointError(
            f"{bundled} holds no model.safetensors; restore it from Git, or run with "
            "-S teacher.source=train"
        )
    with atomic(teacher) as folder:
        shutil.copytree(bundled, folder, ignore=shutil.ignore_patterns(CARD))
    log.info("took the bundled teacher")


def _train(params: Params, teacher: Path) -> None:
    try:
        budget = TeacherBudget(**params.scale_config.train_teacher)  # type: ignore[arg-type]
    except TypeError as error:
        raise ParamsError(f"train_teacher: {error}; correct workflow/scales") from error
    key = [params.data_seed, params.scale_config.train_teacher]
    with resumable("teacher", inputs=[], cache_key=key) as folder:
        model, tokenizer = train_teacher(budget, seed=params.data_seed, scratch=folder)
        with atomic(teacher) as made:
            save_teacher(model, tokenizer, made)


def _fetch(hub: str, revision: str | None, teacher: Path) -> None:
    """Download the original checkpoint and convert it; none of its code is run."""
    try:
        original = Path(snapshot_download(hub, revision=revision, allow_patterns=FETCHED))
    except (OSError, HfHubHTTPError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{hub} cannot be fetched from the hub ({reason}); check the network, or fetch it "
            "elsewhere into the hub's cache (HF_HOME)"
        ) from error
    with atomic(teacher) as folder:
        from_original(original, folder)
