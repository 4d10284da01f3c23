"""Copy, train or fetch the teacher."""

import logging
import shutil
from pathlib import Path

from huggingface_hub import snapshot_download

from fcotvl.core.config import Params
from fcotvl.core.errors import CheckpointError, is_transport_error
from fcotvl.core.io import atomic
from fcotvl.core.resume import resumable
from fcotvl.internvl.convert import from_original
from fcotvl.toy.teacher.recipe import save_teacher, train_teacher

log = logging.getLogger(__name__)

MODEL_CARD = "README.md"
HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.txt"]
"""Weights, configs and tokenizer of a checkpoint on the hub; not its Python files."""


def run(params: Params, *, bundled: Path, teacher: Path) -> None:
    """Write the teacher of the scale to the folder ``teacher``.

    Args:
        params: the study.
        bundled: folder of the teacher that is part of the repository.
        teacher: folder to write.

    Raises:
        CheckpointError: the bundled teacher is missing, the hub cannot be reached, or a checkpoint is not InternVL2's.
    """
    model = params.scale_config.model
    if params.teacher.source == "train":
        _train(params, teacher)
    elif model.hub is None:
        _copy(bundled, teacher)
    else:
        # As in transformers, a folder may stand where an id does.
        local = Path(model.hub)
        original = local if local.is_dir() else _fetch(model.hub, model.revision)
        with atomic(teacher) as folder:
            from_original(original, folder)  # none of its code is run


def _copy(bundled: Path, teacher: Path) -> None:
    if not (bundled / "model.safetensors").is_file():
        raise CheckpointError(
            f"{bundled} holds no model.safetensors: restore it with `git checkout HEAD -- {bundled}`, or train it anew "
            "with -S teacher.source=train"
        )
    with atomic(teacher) as folder:
        shutil.copytree(bundled, folder, ignore=shutil.ignore_patterns(MODEL_CARD))
    log.info("copied the bundled teacher")


def _train(params: Params, teacher: Path) -> None:
    budget = params.scale_config.train_teacher
    with resumable("teacher", inputs=[], cache_key=[params.data_seed, budget.model_dump()]) as scratch:
        model, tokenizer = train_teacher(budget, seed=params.data_seed, scratch=scratch)
        with atomic(teacher) as folder:
            save_teacher(model, tokenizer, folder)


def _fetch(hub: str, revision: str | None) -> Path:
    """Folder of the original checkpoint in the hub's cache, downloaded where it is not there."""
    try:
        return Path(snapshot_download(hub, revision=revision, allow_patterns=HUB_FILES))
    except Exception as error:
        if not (isinstance(error, OSError | ValueError) or is_transport_error(error)):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{hub} cannot be fetched from the hub ({reason}); check the network, fetch it elsewhere into the hub's "
            "cache (HF_HOME), or name a folder that holds it"
        ) from error
