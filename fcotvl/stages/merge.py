"""Weigh checkpoints by Shapley values and average them.

A coalition's utility is the share of right answers that the uniform average of its members gives to questions of
corpus/val, as many of each source. The questions of a source take the prompts of ``merge.prompts`` in turn. The empty
coalition is the distilled student.
"""

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain, cycle
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import torch
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
from fcotvl.compress.vision_cache import keep_visual_tokens
from fcotvl.core.answers import final_answer, is_correct
from fcotvl.core.bootstrap import Bootstrap, Interval
from fcotvl.core.config import Params
from fcotvl.core.errors import DataError
from fcotvl.core.io import atomic, write_json
from fcotvl.core.processes import is_main
from fcotvl.core.records import Record, Turn, balanced
from fcotvl.core.resume import resumable
from fcotvl.core.shards import read_records
from fcotvl.inference.generate import Query, generate, window_size, windows
from fcotvl.inference.pictures import PictureEncoder
from fcotvl.inference.sharing import join, share
from fcotvl.merge import methods, shapley
from fcotvl.merge.average import average_files
from fcotvl.merge.shapley import Coalition, LazyTable

Question = tuple[Record, Turn]
Utilities = list[float]
"""For each question, 1 if the answer is right, otherwise 0."""
Shares = Mapping[str, float]
"""Weights by checkpoint; none of the distilled student."""
Score = Callable[[Shares, Path], Utilities]
"""Utilities of the weighted average of checkpoints; the folder is where the replies to finished windows are kept."""


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
        checkpoints: folder of the checkpoints that ``sft`` kept, or of several runs', which began with ``student``.
        merged: folder of the merged students, one file per method; ``merged`` is that of ``merge.headline``.
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
        score = make_scorer(params, teacher, student, pool, questions)
        table = score_coalitions(pool, score, folder)
        utility = make_utility(pool, table, score, folder)
        found = {name: methods.get(name)(utility, params.merge) for name in params.merge.methods}
        reached = {name: utility.average(shares) for name, shares in found.items()}
        # It may still score coalitions, in which every process takes part.
        values = _values(params, table, [record.sha256 for record, _ in questions])
        if not is_main():
            return
        headline, metadata = params.merge.headline, _metadata(pool)
        singles = {name: {name: 1.0} for name in pool} if params.merge.singles else {}
        with atomic(merged) as path:
            path.mkdir()
            for name, shares in (found | singles).items():
                file, numbers = path / f"{name}.safetensors", [shares.get(player, 0.0) for player in pool]
                average_files(list(pool.values()), numbers, file, metadata=metadata)
            shutil.copyfile(path / f"{headline}.safetensors", path / "merged.safetensors")
        with atomic(coalitions) as path:
            coalition_table(table.known, questions, params.merge.prompts).to_csv(path, index=False)
        content = {
            "method": headline,
            "questions": len(questions),
            "empty_coalition": utility[frozenset()],
            **values,
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


def choose_modes(questions: Sequence[Question], prompts: Sequence[str]) -> list[str]:
    """The prompt of each question: those of a source take ``prompts`` in turn."""
    turns: defaultdict[str, Iterator[str]] = defaultdict(partial(cycle, prompts))
    return [next(turns[record.source]) for record, _ in questions]


def score_coalitions(pool: dict[str, Path], score: Score, folder: Path) -> LazyTable[Utilities]:
    """Utilities by coalition; windows of questions that ``folder`` has already are not scored again.

    All of up to ``EXACT_PLAYERS`` checkpoints are scored here, others when a method reads them.
    """

    def utilities(members: Coalition) -> Utilities:
        return score(uniform(members), folder / (coalition_name(members) or "empty_coalition"))

    table = LazyTable(pool, utilities)
    # The empty coalition comes first: others load their tensors over the distilled student's.
    exact = len(pool) <= shapley.EXACT_PLAYERS
    order = list(shapley.coalitions(pool)) if exact else [frozenset[str]()]
    for members in tqdm(order, desc="coalitions", disable=None if is_main() else True):
        table.get(members)
    return table


def uniform(members: Coalition) -> Shares:
    """The weights of the uniform average of ``members``."""
    return {name: 1 / len(members) for name in sorted(members)}


def coalition_name(members: Coalition) -> str:
    """What a coalition is called in tables."""
    return "+".join(sorted(members))


def make_utility(
    pool: Mapping[str, Path], table: Mapping[Coalition, Utilities], score: Score, folder: Path
) -> methods.WeightedUtility:
    """What merge methods see: the mean utility of coalitions, and of any average, which ``folder`` keeps."""

    def average(shares: Shares) -> float:
        members = frozenset(name for name, share in shares.items() if share)
        if len({share for share in shares.values() if share}) == 1:  # the uniform average of a coalition
            return fmean(table[members])
        digest = hashlib.sha256(json.dumps(shares, sort_keys=True).encode()).hexdigest()
        return fmean(score(shares, folder / f"average-{digest[:16]}"))

    return methods.WeightedUtility(pool, lambda members: fmean(table[members]), average)


def make_scorer(
    params: Params, teacher: Path, student: Path, pool: Mapping[str, Path], questions: Sequence[Question]
) -> Score:
    """Score one average after another by its greedy answers, which the processes of the run share."""
    scale = params.scale_config
    dtype = getattr(torch, scale.model.dtype)
    full = load_teacher(teacher, dtype=dtype).to(join())
    keep_visual_tokens(full, scale.launch.vision_cache_gb)
    model = load_student(full, [student])
    processor = processor_for(load_processor(teacher), model.config)
    modes = choose_modes(questions, params.merge.prompts)
    queries = [
        Query(record.decode, record.id, scale.prompts.ask(turn, mode))
        for (record, turn), mode in zip(questions, modes, strict=True)
    ]
    groups = list(windows(queries, window_size(scale.evaluate.batch_size)))
    encoder = PictureEncoder()
    loaded: Path | None = None
    latest = [""] * len(questions)  # averages mostly reply as the one before

    def answer(number: int, *, folder: Path, average: Path | None) -> list[str]:
        """The replies to a window."""
        nonlocal loaded
        if average is not None and folder != loaded:
            load_tensors(model, read_student_tensors(average)[0], source=str(average))
            loaded = folder
        said: dict[int, str] = {}
        for mode in params.merge.prompts:
            asked = [i for i in groups[number] if modes[i] == mode]
            replies = generate(
                model,
                processor,
                [queries[i] for i in asked],
                max_new_tokens=scale.prompts.max_new_tokens(mode),
                min_new_tokens=scale.prompts.min_tokens,
                batch_size=scale.evaluate.batch_size,
                batch_tokens=scale.evaluate.batch_tokens,
                max_tiles=scale.model.max_tiles,
                encoder=encoder,
                drafts=[latest[i] for i in asked],
                label=None,
            )
            said.update(zip(asked, replies, strict=True))
        return [said[i] for i in groups[number]]

    def score(shares: Shares, folder: Path) -> Utilities:
        nonlocal latest
        average = folder.parent / "average.safetensors" if shares else None
        names = [name for name in pool if name in shares]
        files, weights = [pool[name] for name in names], [shares[name] for name in names]
        prepare = partial(average_files, files, weights, average) if average else None
        found = share(folder, len(groups), partial(answer, folder=folder, average=average), prepare=prepare)
        replies = dict(zip(chain.from_iterable(groups), chain.from_iterable(found), strict=True))
        latest = [replies[i] for i in range(len(questions))]
        right = (
            is_correct(final_answer(reply), turn.answers) for reply, (_, turn) in zip(latest, questions, strict=True)
        )
        return list(map(float, right))

    return score


def _metadata(pool: dict[str, Path]) -> dict[str, str]:
    """The header of a merged student: that of the checkpoints, with this stage."""
    _, header = read_student_tensors(next(iter(pool.values())))
    return {HEADER: json.dumps(asdict(replace(header, stage="merge")))}


def coalition_table(
    table: Mapping[Coalition, Utilities], questions: Sequence[Question], prompts: Sequence[str]
) -> pd.DataFrame:
    """One row per coalition and question: coalition, size, utility, the question's names and its prompt."""
    names = ["coalition", "size", "image_id", "source", "kind", "question_id", "prompt", "utility"]
    modes = choose_modes(questions, prompts)
    rows = [
        (coalition_name(m), len(m), record.sha256, record.source, turn.kind, turn.id, mode, value)
        for m in sorted(table, key=lambda members: (len(members), sorted(members)))
        for (record, turn), mode, value in zip(questions, modes, table[m], strict=True)
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
