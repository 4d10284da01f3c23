"""Stage ``merge``: score every coalition of checkpoints, weigh them, average them by every rule.

A coalition's utility is the share of right answers, under the direct prompt, that the uniform
average of its members gives to questions of corpus/val; nobody's is that of the distilled student.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import PartialState
from tqdm import tqdm

from fcotvl.compress.checkpoints import (
    load_processor,
    load_student,
    load_teacher,
    load_tensors,
    processor_for,
    read_student_tensors,
)
from fcotvl.core.answers import final_answer, is_correct
from fcotvl.core.config import Params
from fcotvl.core.errors import DataError
from fcotvl.core.io import atomic, write_json
from fcotvl.core.records import Record, Turn, balanced
from fcotvl.core.resume import resumable
from fcotvl.core.shards import read_records
from fcotvl.inference.generate import Query, generate
from fcotvl.merge import methods as rules
from fcotvl.merge.average import average_files
from fcotvl.merge.shapley import Coalition, bootstrap_values, coalitions

log = logging.getLogger(__name__)

Question = tuple[Record, Turn]
Utilities = list[float]
"""1 or 0 for each question."""
Score = Callable[[Path | None], Utilities]
"""Utilities of the student in a file, or of the distilled one."""


def run(
    params: Params,
    *,
    corpus: Path,
    teacher: Path,
    student: Path,
    checkpoints: Path,
    merged: Path,
    coalitions: Path,
    weights: Path,
) -> None:
    """Write a ``merged`` student per rule, every coalition's utilities, values and weights."""
    with resumable(
        "merge",
        inputs=[corpus / "val", teacher, student, checkpoints],
        cache_key=_cache_key(params),
    ) as folder:
        pool = {path.stem: path for path in sorted(checkpoints.glob("*.safetensors"))}
        if not pool:
            raise DataError(f"{checkpoints} holds no checkpoint; run sft again")
        questions = choose_questions(
            corpus / "val", params.scale_config.merge.questions, params.data_seed
        )
        score = _scorer(params, teacher, student, questions)
        table = score_coalitions(pool, score, folder)
        utility = {members: sum(found) / len(found) for members, found in table.items()}
        options = rules.Options(params.merge.weights, params.merge.tau)
        found = {name: rules.get(name)(utility, options) for name in rules.available()}
        with atomic(merged) as path:
            path.mkdir()
            made = {name: path / f"{name}.safetensors" for name in found}
            for name, shares in found.items():
                average_files(list(pool.values()), [shares[player] for player in pool], made[name])
            headline = params.recipes[params.recipe].merge
            shutil.copyfile(made[headline], path / "merged.safetensors")
            reached = {
                name: _reached(shares, table, made[name], score) for name, shares in found.items()
            }
        with atomic(coalitions) as path:
            coalition_table(table, questions).to_csv(path, index=False)
        write_json(weights, account(params, table, questions, found, reached))


def _reached(
    shares: dict[str, float], table: dict[Coalition, Utilities], file: Path, score: Score
) -> float:
    """The utility of a merged student; that of a coalition where it is one's uniform average."""
    members = frozenset(name for name, share in shares.items() if share)
    uniform = len({share for share in shares.values() if share}) == 1
    return _mean(table[members] if uniform else score(file))


def choose_questions(folder: Path, count: int, seed: int) -> list[Question]:
    """Up to ``count`` questions with answers, balanced over sources; transcription is none."""
    turns = (
        (record, turn)
        for record in read_records(folder)
        for turn in record.turns
        if turn.answers and turn.kind != "transcribe"
    )
    chosen = balanced(turns, count, seed, lambda pair: (pair[0].source, pair[1].id))
    if not chosen:
        raise DataError(f"{folder} has no question with an answer; run curate again")
    return chosen


def score_coalitions(
    pool: dict[str, Path], score: Score, folder: Path
) -> dict[Coalition, Utilities]:
    """Utilities of every coalition; those that ``folder`` has already are not scored again."""
    table = {}
    everyone = list(coalitions(pool))
    for members in tqdm(everyone, desc="coalitions", disable=None):
        path = folder / f"{'+'.join(sorted(members)) or 'nobody'}.json"
        if not path.is_file():
            write_json(path, _utilities(members, pool, score, folder))
        table[members] = json.loads(path.read_text(encoding="utf-8"))
    return table


def _utilities(members: Coalition, pool: dict[str, Path], score: Score, folder: Path) -> Utilities:
    if not members:
        return score(None)
    files = [pool[name] for name in sorted(members)]
    average = folder / "average.safetensors"
    average_files(files, [1 / len(files)] * len(files), average)
    return score(average)


def _scorer(params: Params, teacher: Path, student: Path, questions: Sequence[Question]) -> Score:
    """Greedy direct answers of one student after another, each compared with the references."""
    at = params.scale_config
    big = load_teacher(teacher, dtype=getattr(torch, at.model.dtype)).to(PartialState().device)
    model = load_student(big, [student])
    processor = processor_for(load_processor(teacher), model.config)
    prompts = at.prompts
    queries = [
        Query(record.decode, record.id, prompts.ask(turn, "direct")) for record, turn in questions
    ]

    def score(file: Path | None) -> Utilities:
        if file is not None:
            load_tensors(model, read_student_tensors(file)[0], source=str(file))
        replies = generate(
            model,
            processor,
            queries,
            max_new_tokens=at.prompts.direct_tokens,
            batch_size=at.evaluate.batch_size,
            max_tiles=at.model.max_tiles,
        )
        return [
            float(is_correct(final_answer(reply), turn.answers))
            for reply, (_, turn) in zip(replies, questions, strict=True)
        ]

    return score


def coalition_table(
    table: dict[Coalition, Utilities], questions: Sequence[Question]
) -> pd.DataFrame:
    """One row per coalition and question: coalition, size, utility, and whose question it is."""
    return pd.DataFrame(
        [
            {
                "coalition": "+".join(sorted(members)),
                "size": len(members),
                "image_id": record.id,
                "source": record.source,
                "kind": turn.kind,
                "question_id": turn.id,
                "utility": value,
            }
            for members, values in table.items()
            for (record, turn), value in zip(questions, values, strict=True)
        ]
    )


def account(
    params: Params,
    table: dict[Coalition, Utilities],
    questions: Sequence[Question],
    found: dict[str, dict[str, float]],
    reached: dict[str, float],
) -> dict[str, Any]:
    """What weights.json says: values and gaps with intervals, weights and utility by rule."""
    values, gaps = bootstrap_values(
        table, [record.id for record, _ in questions], replicates=params.score.resamples
    )
    return {
        "rule": params.recipes[params.recipe].merge,
        "questions": len(questions),
        "nobody": _mean(table[frozenset()]),
        "shapley": {player: asdict(estimate) for player, estimate in values.items()},
        "gaps": [
            {"one": one, "other": other} | asdict(estimate)
            for (one, other), estimate in gaps.items()
        ],
        "rules": {
            name: {"utility": reached[name], "weights": shares} for name, shares in found.items()
        },
    }


def _mean(values: Utilities) -> float:
    return sum(values) / len(values)


def _cache_key(params: Params) -> list[object]:
    at = params.scale_config
    return [
        params.data_seed,
        *(s.model_dump() for s in (params.merge, at.merge, at.model, at.prompts, at.evaluate)),
    ]
