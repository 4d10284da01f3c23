"""Stage ``teacher``: bundled, trained from nothing or fetched from the hub, in one layout."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from fcotvl.errors import CheckpointError
from fcotvl.files import atomic
from fcotvl.params import Params

log = logging.getLogger(__name__)

CARD = "README.md"


def run(params: Params, *, bundled: Path, teacher: Path) -> None:
    """Put the teacher of the scale into the folder ``teacher``."""
    model = params.at.model
    if params.teacher.source == "train":
        _train(params, teacher)
    elif model.hub is None:
        _copy(bundled, teacher)
    else:
        _fetch(model.hub, model.revision, teacher)


def _copy(bundled: Path, teacher: Path) -> None:
    if not (bundled / "model.safetensors").is_file():
        raise CheckpointError(
            f"{bundled} holds no model.safetensors; restore it from Git, or run with "
            "-S teacher.source=train"
        )
    with atomic(teacher) as scratch:
        shutil.copytree(bundled, scratch, ignore=shutil.ignore_patterns(CARD))
    log.info("took the bundled teacher")


def _train(params: Params, teacher: Path) -> None:
    raise NotImplementedError(params, teacher)


def _fetch(hub: str, revision: str | None, teacher: Path) -> None:
    raise NotImplementedError(hub, revision, teacher)
