"""Whether lm-eval's replies and scores are those of the chain, question by question."""

from collections.abc import Iterable
from typing import Any

import pandas as pd
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from fcotvl.core.errors import DataError
from fcotvl.harness import TASKS
from fcotvl.harness.model import FcotvlLM

KEYS = ["benchmark", "prompt", "question_id"]
SHOWN = 20
"""Differences that are listed."""


def ask(metadata: dict[str, Any], model: FcotvlLM, prompt: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ask ``model`` every question of a mix by lm-eval's tasks.

    Args:
        metadata: of the study, made by ``study_metadata``.
        model: teacher or student.
        prompt: ``direct`` or ``cot``.

    Returns:
        Replies and scores, with the columns of ``fcotvl.evaluate.scoring`` that tell the questions apart.
    """
    manager = TaskManager(include_path=TASKS, include_defaults=False, metadata=metadata)
    about = {name: (entry.cfg or {})["metadata"] for name, entry in manager.task_index.items()}
    tasks = [
        name
        for name, own in about.items()
        if own.get("benchmark") in metadata["study"]["max_tiles"]
        and own["prompt"] == prompt
        and "source" not in own  # a part of a benchmark, such as a half of ChartQA
    ]
    found = simple_evaluate(model=model, tasks=tasks, task_manager=manager, log_samples=True, bootstrap_iters=0)
    if found is None:
        raise DataError("lm-eval returned nothing; start harness without torchrun")
    replies, scores = [], []
    for task, samples in found["samples"].items():
        for sample in samples:
            key = (about[task]["benchmark"], about[task]["prompt"], sample["doc"]["question_id"])
            replies.append((*key, sample["resps"][0][0]))
            scores += [(*key, metric, sample[metric]) for metric in sample["metrics"]]
    return pd.DataFrame(replies, columns=[*KEYS, "prediction"]), pd.DataFrame(
        scores, columns=[*KEYS, "metric", "score"]
    )


def compare(found: pd.DataFrame, expected: pd.DataFrame, *, keys: Iterable[str], value: str) -> dict[str, Any]:
    """How many rows of two tables hold the same ``value``; a row that one of them lacks is a difference.

    Args:
        found: lm-eval's rows.
        expected: the chain's.
        keys: columns that name a row.
        value: column to compare.

    Returns:
        Numbers of ``equal`` rows and of rows in ``total``, and the first 20 that are ``different``.
    """
    keys = list(keys)
    pair = found[[*keys, value]].merge(expected[[*keys, value]], on=keys, how="outer", indicator=True, validate="1:1")
    is_equal = (pair["_merge"] == "both") & (pair[f"{value}_x"] == pair[f"{value}_y"])
    different = pair.loc[~is_equal, keys].head(SHOWN)
    return {
        "equal": int(is_equal.sum()),
        "total": len(pair),
        "different": [" / ".join(map(str, row)) for row in different.itertuples(index=False)],
    }
