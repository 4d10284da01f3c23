"""Weigh checkpoints by Shapley values and average them.

A coalition's utility is the share of right answers, under the direct prompt, that the uniform average of its members
gives to questions of corpus/val. The empty coalition is the distilled student.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import torch
from accelerate import PartialState
from tqdm import tqdm

from fcotvl.compress.checkpoints import (
    HEADER,
    load_processor,
    load_student,
    load_teacher,
    load_tensors,
    processor_for,
    read_student_tensors,
)
from fcotvl.core.answers import final_answer, is_correct
from fcotvl.core.bootstrap import Bootstrap, Interval
from fcotvl.core.config import Params
from fcotvl.core.errors import DataError
from fcotvl.core.io import atomic, write_json
from fcotvl.core.records import Record, Turn, balanced
from fcotvl.core.resume import resumable
from fcotvl.core.shards import read_records
from fcotvl.inference.generate import Query, generate
from fcotvl.inference.pictures import PictureEncoder
from fcotvl.merge import methods, shapley
from fcotvl.merge.average import average_files
from fcotvl.merge.shapley import Coalition, LazyTable

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
    """Write one ``merged`` student per method, the utilities of coalitions, values and weights.

    Args:
        params: the study.
        corpus: the curated corpus; questions come from ``val``.
        teacher: folder of the teacher.
        student: tensors of the distilled student.
        checkpoints: folder of the checkpoints that ``sft`` kept.
        merged: folder of the merged students, one file per method; ``merged`` is the recipe's.
        coalitions: CSV of what each coalition answers right.
        weights: JSON of Shapley values, and of weights and utility per method.
    """
    with resumable(
        "merge", inputs=[corpus / "val", teacher, student, checkpoints], cache_key=_cache_key(params)
    ) as folder:
        pool = {path.stem: path for path in sorted(checkpoints.glob("*.safetensors"))}
        if not pool:
            raise DataError(f"{checkpoints} holds no checkpoint; run sft again")
        count = params.scale_config.merge.questions
        questions = choose_questions(corpus / "val", count, params.data_seed)
        score = _scorer(params, teacher, student, questions)
        table = score_coalitions(pool, score, folder)
        utility = LazyTable(pool, lambda members: fmean(table[members]))
        found = {name: methods.get(name)(utility, params.merge) for name in methods.available()}
        headline, metadata, reached = params.recipes[params.recipe].merge, _metadata(pool), {}
        with atomic(merged) as path:
            path.mkdir()
            for name, shares in found.items():
                file, numbers = path / f"{name}.safetensors", [shares[player] for player in pool]
                average_files(list(pool.values()), numbers, file, metadata=metadata)
                reached[name] = _reached(shares, utility, file, score)
            shutil.copyfile(path / f"{headline}.safetensors", path / "merged.safetensors")
        with atomic(coalitions) as path:
            coalition_table(table.known, questions).to_csv(path, index=False)
        content = {
            "method": headline,
            "questions": len(questions),
            "empty_coalition": utility[frozenset()],
            **_values(params, table, [record.id for record, _ in questions]),
            "methods": {n: {"utility": reached[n], "weights": found[n]} for n in found},
        }
        write_json(weights, content)


def choose_questions(folder: Path, count: int, seed: int) -> list[Question]:
    """Up to ``count`` questions with answers, balanced over sources, without transcriptions.

    Raises:
        DataError: there is none.
    """
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


def score_coalitions(pool: dict[str, Path], score: Score, folder: Path) -> LazyTable[Utilities]:
    """Utilities by coalition; those that ``folder`` has already are not scored again.

    All of up to ``EXACT_PLAYERS`` checkpoints are scored here, others when a method reads them.
    """
    average = folder / "average.safetensors"

    def utilities(members: Coalition) -> Utilities:
        path = folder / f"{'+'.join(sorted(members)) or 'empty_coalition'}.json"
        if not path.is_file():
            files = [pool[name] for name in sorted(members)]
            if files:
                average_files(files, [1 / len(files)] * len(files), average)
            write_json(path, score(average if files else None))
        found: Utilities = json.loads(path.read_text(encoding="utf-8"))
        return found

    table = LazyTable(pool, utilities)
    # The empty coalition comes first: others load their tensors over the distilled student's.
    exact = len(pool) <= shapley.EXACT_PLAYERS
    order = list(shapley.coalitions(pool)) if exact else [frozenset[str]()]
    for members in tqdm(order, desc="coalitions", disable=None):
        table.get(members)
    return table


def _scorer(params: Params, teacher: Path, student: Path, questions: Sequence[Question]) -> Score:
    """Score one student after another by its greedy direct answers."""
    scale = params.scale_config
    dtype = getattr(torch, scale.model.dtype)
    model = load_student(load_teacher(teacher, dtype=dtype).to(PartialState().device), [student])
    processor = processor_for(load_processor(teacher), model.config)
    queries = [Query(record.decode, record.id, scale.prompts.ask(turn, "direct")) for record, turn in questions]
    encoder = PictureEncoder()

    def score(file: Path | None) -> Utilities:
        if file is not None:
            load_tensors(model, read_student_tensors(file)[0], source=str(file))
        replies = generate(
            model,
            processor,
            queries,
            max_new_tokens=scale.prompts.max_new_tokens("direct"),
            batch_size=scale.evaluate.batch_size,
            max_tiles=scale.model.max_tiles,
            encoder=encoder,
            label=None,
        )
        return [
            float(is_correct(final_answer(reply), turn.answers))
            for reply, (_, turn) in zip(replies, questions, strict=True)
        ]

    return score


def _metadata(pool: dict[str, Path]) -> dict[str, str]:
    """The header of a merged student: that of the checkpoints, with this stage."""
    _, header = read_student_tensors(next(iter(pool.values())))
    return {HEADER: json.dumps(asdict(replace(header, stage="merge")))}


def _reached(shares: dict[str, float], utility: Mapping[Coalition, float], file: Path, score: Score) -> float:
    """The utility of a merged student, which may be the uniform average of a coalition."""
    members = frozenset(name for name, share in shares.items() if share)
    uniform = len({share for share in shares.values() if share}) == 1
    return utility[members] if uniform else fmean(score(file))


def coalition_table(table: Mapping[Coalition, Utilities], questions: Sequence[Question]) -> pd.DataFrame:
    """One row per coalition and question: coalition, size, utility and the question's names."""
    names = ["coalition", "size", "image_id", "source", "kind", "question_id", "utility"]
    rows = [
        ("+".join(sorted(m)), len(m), record.id, record.source, turn.kind, turn.id, value)
        for m in sorted(table, key=lambda members: (len(members), sorted(members)))
        for (record, turn), value in zip(questions, table[m], strict=True)
    ]
    return pd.DataFrame(rows, columns=names)


def _values(params: Params, table: Mapping[Coalition, Utilities], images: Sequence[str]) -> dict[str, Any]:
    """Shapley values and gaps with intervals; values of permutations also with standard errors."""
    bootstrap, pairs = Bootstrap(params.score.resamples), params.merge.permutations
    values, gaps, errors = shapley.bootstrap_values(table, images, pairs=pairs, bootstrap=bootstrap)
    error = {player: {"standard_error": value} for player, value in errors.items()}
    return {
        "shapley": {p: _bounds(value) | error.get(p, {}) for p, value in values.items()},
        "gaps": [{"one": a, "other": b} | _bounds(gap) for (a, b), gap in gaps.items()],
    }


def _bounds(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _cache_key(params: Params) -> list[object]:
    scale = params.scale_config
    sections = (params.merge, scale.merge, scale.model, scale.prompts, scale.evaluate)
    return [params.data_seed, *(section.model_dump() for section in sections)]
