"""Convert InternVL2 checkpoints to transformers and back."""

import logging
from pathlib import Path

from fcotvl.core.config import Params
from fcotvl.core.io import atomic
from fcotvl.internvl.convert import ORIGINAL_CONFIG, from_original, to_original

log = logging.getLogger(__name__)


def run(params: Params, *, source: Path, target: Path) -> None:  # noqa: ARG001 - as every stage
    """Convert ``source``; a converted folder goes back to the original layout.

    Args:
        params: the study; not used.
        source: a downloaded OpenGVLab/InternVL2 folder, or one that this stage wrote.
        target: the folder to write.
    """
    back = (source / ORIGINAL_CONFIG).exists()
    with atomic(target) as scratch:
        (to_original if back else from_original)(source, scratch)
    log.info("wrote %s in %s layout", target, "the original" if back else "transformers'")
