"""Compare lm-evaluation-harness' replies with the chain's."""

import logging
import os
from functools import partial
from pathlib import Path

import pandas as pd

from fcotvl.core.config import Params
from fcotvl.core.errors import DataError
from fcotvl.core.io import write_json
from fcotvl.evaluate.scoring import read_predictions

log = logging.getLogger(__name__)


def run(
    params: Params,
    *,
    benchmarks: Path,
    teacher: Path,
    student: Path,
    predictions: tuple[Path, ...],
    scores: tuple[Path, ...],
    prompt: str = "direct",
    agreement: Path,
) -> None:
    """Ask every question by lm-eval, and count the replies and scores that are the chain's own.

    Args:
        params: the study.
        benchmarks: a folder of shards for each benchmark of the mix.
        teacher: the teacher's folder.
        student: folder with the tensors of the merged student.
        predictions: tables with the chain's replies of both.
        scores: tables with the chain's scores of both.
        prompt: ``direct`` or ``cot``.
        agreement: JSON file to write.
    """
    os.environ["LMEVAL_HASHMM"] = "0"  # read when lm_eval is imported: it would encode every picture for a hash
    from fcotvl.harness.agreement import KEYS, ask, compare  # noqa: PLC0415 - after the line above
    from fcotvl.harness.model import FcotvlLM  # noqa: PLC0415
    from fcotvl.harness.task import study_metadata  # noqa: PLC0415

    scale = params.scale_config
    study = study_metadata(scale.prompts, params.mix, params.mix_config.benchmarks, benchmarks)
    load = partial(
        FcotvlLM,
        dtype=scale.model.dtype,
        batch_size=scale.evaluate.batch_size,
        batch_tokens=scale.evaluate.batch_tokens,
    )
    models = {
        "teacher": partial(load, str(teacher)),
        "merged": partial(load, str(student / "merged.safetensors"), teacher=str(teacher)),
    }
    own_replies = pd.concat(map(read_predictions, predictions), ignore_index=True)
    own_scores = pd.concat(map(read_predictions, scores), ignore_index=True)
    found = {}
    for system, model in models.items():
        replies, scored = ask(study, model(), prompt)
        found[system] = {
            "replies": compare(replies, _of(own_replies, system, prompt), keys=KEYS, value="prediction"),
            "scores": compare(scored, _of(own_scores, system, prompt), keys=[*KEYS, "metric"], value="score"),
        }
        for what, counts in found[system].items():
            log.info("%s: %d of %d %s are equal", system, counts["equal"], counts["total"], what)
    write_json(agreement, found)


def _of(table: pd.DataFrame, system: str, prompt: str) -> pd.DataFrame:
    """The rows of one system and prompt."""
    rows = table[(table["system"] == system) & (table["prompt"] == prompt)]
    if rows.empty:
        raise DataError(f"the tables have no rows of {system}, {prompt}; run predict and score again")
    return rows
