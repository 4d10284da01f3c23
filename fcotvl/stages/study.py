"""Judge every claim of the paper by the grids of a study."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.checkpoints import load_processor, read_student_tensors
from fcotvl.compress.compressors import tile_ratios
from fcotvl.compress.config import FcotvlConfig
from fcotvl.compress.tile_complexity import mean_removed_ratio, tile_complexity
from fcotvl.core.config import Grid, Params, load
from fcotvl.core.errors import DataError, ParamsError
from fcotvl.core.io import write_text
from fcotvl.core.shards import read_records
from fcotvl.dag.pools import members
from fcotvl.evaluate import benchmarks
from fcotvl.evaluate import cost as counted
from fcotvl.inference import pruning
from fcotvl.internvl.architectures import teacher_config
from fcotvl.report.files import commit, write_tables
from fcotvl.report.formatting import percent
from fcotvl.report.inputs import Measured, read_json, read_predictions, read_scores, read_table
from fcotvl.report.study.chains import slips
from fcotvl.report.study.data import DISTILLED, RIGHT, TEACHER, Cost, Pool, Scores, StudyData, System
from fcotvl.report.study.page import render_page
from fcotvl.report.study.plots import all_plots
from fcotvl.report.study.tables import all_tables

log = logging.getLogger(__name__)

TEXT_TOKENS = 32
"""Tokens of a prompt beside the visual ones, for counting operations."""
QUESTION = ["benchmark", "question_id"]
ASKED = ["benchmark", "prompt", "kind", "image_id", "question_id", "part"]
LOOKED = ["layer", "mass", "entropy", "place", "chance"]
"""Columns of the tables of ``fcotvl attention``."""
SLIPPED = (0.5, 0.75)
"""Shares of tokens removed at which chains of thought are compared with the teacher's."""
Rows = dict[tuple[System, str], dict[int, NDArray[np.float64]]]
"""Percent of each question, by system and prompt, and by seed; what is not trained has seed -1."""


def run(params: Params, *, data: Path, output: Path, cost: tuple[Path, ...] = ()) -> None:
    """Write the page of claims with its tables and figures.

    Args:
        params: the study, whose grids are compared.
        data: folder of what the stages made.
        output: gets ``index.html``, ``tables/`` and ``figures/``.
        cost: JSON files of ``benchmarks/cost.py``, one for each shape (default: speed is not judged).
    """
    if not params.grids:
        raise ParamsError("there are no grids; name a file that has some: --params workflow/study.yaml")
    study = _read(params, data, cost)
    tables, plots = all_tables(study), all_plots(study)
    write_text(output / "index.html", render_page(study, tables, plots))
    write_tables(output, tables, plots)
    log.info("%d systems compared", len({system for system, _ in study.scores}))


def _read(params: Params, data: Path, measured: Sequence[Path] = ()) -> StudyData:
    baselines = headline(read_scores(data / params.scale / "scores.parquet"))
    teacher = baselines[baselines["system"] == "teacher"]
    questions = {
        str(prompt): part[["benchmark", "kind", "image_id", "question_id"]].reset_index(drop=True)
        for prompt, part in teacher.groupby("prompt", sort=False)
    }
    rows: Rows = {}
    _add(rows, baselines, {"teacher": TEACHER} | _training_free(params), -1, questions)
    students = list({file: (systems, seed) for file, systems, seed in _students(params)}.items())
    for file, (systems, seed) in students:
        _add(rows, headline(read_scores(data / file)), systems, seed, questions)
    whole = _pictures(params.scale)
    shares = {scale: _pictures(scale) / whole for scale in params.scales[1:]}
    return StudyData(
        facts=_facts(params, questions),
        grids=tuple(_describe(grid) for grid in params.grids.values()),
        benchmarks={name: benchmarks.get(name).title for name in params.mix_config.benchmarks},
        questions=questions,
        scores={key: _stack(by_seed) for key, by_seed in rows.items()},
        losses=_losses(params, data),
        costs=_costs(params, {system for system, _ in rows}),
        pools=tuple(_pools(params, data)),
        shares=shares,
        removed=_removed(params, data),
        slips=_slips(params, data, questions["cot"], rows),
        attention=_attention(params, data),
        **(_speed(measured) if measured else {}),
    )


def _speed(files: Sequence[Path]) -> dict[str, Any]:
    """What ``benchmarks/cost.py`` measured, and on what."""
    tables, words = [], []
    for file in files:
        found = read_json(file, Measured, "the benchmark cost", "a measurement of cost")
        rows = pd.DataFrame(found["rows"]).astype({"predicted": float})
        tables.append(rows.assign(shape=found["architecture"]))
        how = "extrapolated from models of one and of two layers, " * (found["extrapolate"] == "True")
        made = f"{found['tiles']} tiles, {found['dtype']}, {found['device']}, {how}in {found['pairs']} rounds"
        words.append(f"{found['architecture']} with random weights, {made}")
    return {"speed": pd.concat(tables, ignore_index=True), "shape": "; ".join(words)}


def _students(params: Params) -> Iterator[tuple[Path, dict[str, System], int]]:
    """The tables of scores of all grids: each below the data, what its systems are, and the seed."""
    for pool, grid in params.grids.items():
        for point in grid.points(params.scale):
            compressor, ratio, seed, recipe = point["compressor"], point["ratio"], point["seed"], point.get("recipe")
            own = "" if point["scale"] == params.scale else point["scale"]
            folder = Path(point["scale"], f"{compressor}-r{ratio}-s{seed}")
            yield folder / "scores.parquet", {DISTILLED: System(compressor, ratio, DISTILLED, own)}, seed
            for served in grid.serve:
                at = folder / f"at-{served}/scores.parquet"
                yield at, {DISTILLED: System(compressor, served, DISTILLED, own)}, seed
            if recipe:
                stage = f"sft-{recipe}"
                yield folder / f"sft-scores/{recipe}.parquet", {stage: System(compressor, ratio, stage, own)}, seed
            if recipe and grid.merged:
                found = {name: System(compressor, ratio, name, own) for name in params.merge.methods}
                found |= {n: System(compressor, ratio, f"{recipe}/{n}", own) for n in _members(params, grid, recipe)}
                yield folder / recipe / "merged-scores.parquet", found, seed
            if grid.pool:
                names = [*params.merge.methods, *_members(params, grid, pool)]
                found = {name: System(compressor, ratio, f"{pool}/{name}", own) for name in names}
                yield folder / pool / "merged-scores.parquet", found, seed


def _members(params: Params, grid: Grid, home: str) -> list[str]:
    """Names of the checkpoints that are merged and evaluated alone: those of a pool, or of recipe ``home``."""
    if not params.merge.singles:
        return []
    return list(members(grid, params) if grid.pool else params.sft_budget(home).checkpoint_steps)


def _pools(params: Params, data: Path) -> Iterator[Pool]:
    """What was merged, at the study's own scale."""
    for name, grid in params.grids.items():
        if not (grid.merged or grid.pool):
            continue
        homes = [name] if grid.pool else list(grid.recipe)
        for compressor, ratio, home in product(grid.compressor, grid.ratio, homes):
            place = f"{home}/" if grid.pool else ""
            tables = [
                read_table(
                    data / params.scale / f"{compressor}-r{ratio}-s{seed}" / home / "coalitions.csv",
                    "merge",
                    "utilities",
                    numbers=["utility"],
                    texts=["coalition"],
                )
                .fillna({"coalition": ""})
                .assign(seed=seed)
                for seed in grid.seed
            ]
            yield Pool(
                f"{grid.title}, {percent(ratio)} removed",
                {method: System(compressor, ratio, f"{place}{method}") for method in params.merge.methods},
                {member: System(compressor, ratio, f"{home}/{member}") for member in _members(params, grid, home)},
                pd.concat(tables, ignore_index=True),
                permutations=params.merge.permutations,
                control=not grid.pool and any(other.pool for other in params.grids.values()),
            )


def _attention(params: Params, data: Path) -> dict[System, pd.DataFrame]:
    """Where the teacher and the students of grids that ask for it look."""
    tables: dict[System, dict[int, Path]] = {}
    for grid in params.grids.values():
        for point in grid.points(params.scale) if grid.attention else ():
            compressor, ratio, seed, recipe = point["compressor"], point["ratio"], point["seed"], point.get("recipe")
            folder = Path(params.scale, f"{compressor}-r{ratio}-s{seed}")
            tables.setdefault(TEACHER, {})[-1] = Path(params.scale)
            tables.setdefault(System(compressor, ratio, DISTILLED), {})[seed] = folder
            if recipe:
                tables.setdefault(System(compressor, ratio, f"sft-{recipe}"), {})[seed] = folder / recipe
    return {
        system: pd.concat(
            [
                read_table(
                    data / folder / "attention.parquet", "attention", "attention", texts=ASKED, numbers=LOOKED
                ).assign(seed=seed)
                for seed, folder in folders.items()
            ],
            ignore_index=True,
        )
        for system, folders in tables.items()
    }


def _training_free(params: Params) -> dict[str, System]:
    """The training-free systems, by their names in the tables of scores."""
    chosen = params.baselines
    return {f"{name}-r{ratio}": System(name, ratio) for name, ratio in product(chosen.methods, chosen.ratios)}


def headline(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of each benchmark's headline metric."""
    metric = {name: benchmarks.get(name).headline for name in scores["benchmark"].unique()}
    return scores[scores["metric"] == scores["benchmark"].map(metric)]


def _add(
    rows: Rows, scores: pd.DataFrame, systems: Mapping[str, System], seed: int, questions: Mapping[str, pd.DataFrame]
) -> None:
    """Add the scores of ``systems``, in the order of ``questions``, to ``rows``."""
    for (name, prompt), part in scores.groupby(["system", "prompt"], sort=False):
        if (system := systems.get(str(name))) is None:
            continue
        found = _in_order(part, "score", system, questions[str(prompt)])
        rows.setdefault((system, str(prompt)), {})[seed] = 100 * found.to_numpy(dtype=np.float64)


def _in_order(table: pd.DataFrame, column: str, system: System, questions: pd.DataFrame) -> pd.Series:
    """One column of a system's table in the order of ``questions``."""
    asked = pd.MultiIndex.from_frame(questions[QUESTION])
    found = table.set_index(QUESTION)[column].reindex(asked)
    if found.isna().any() or len(table) != len(asked):
        raise DataError(
            f"{system.label} was not asked the questions of the teacher ({len(table)} {column}s, {len(asked)} "
            "questions); run the study again"
        )
    return found


def _stack(by_seed: Mapping[int, NDArray[np.float64]]) -> Scores:
    seeds = sorted(by_seed)
    return Scores(tuple(seed for seed in seeds if seed >= 0), np.stack([by_seed[seed] for seed in seeds]))


def _slips(params: Params, data: Path, questions: pd.DataFrame, rows: Rows) -> dict[System, NDArray[np.object_]]:
    """Where the chains of thought of distilled and fine-tuned students, and without training, leave the teacher's."""
    baselines = data / params.scale / "predictions.parquet"
    replies: dict[Path, tuple[dict[str, System], int]] = {baselines: (_training_free(params), -1)}
    for file, systems, seed in _students(params):
        fine_tuned = file.parent.name == "sft-scores"
        asked = file.parents[1] / file.stem if fine_tuned else file.parent
        if fine_tuned or DISTILLED in systems:
            replies[data / asked / "predictions.parquet"] = systems, seed
    teachers = _chains(read_predictions(baselines), "teacher", TEACHER, questions)
    right = rows[TEACHER, "cot"][-1] >= RIGHT
    found: dict[System, dict[int, NDArray[np.object_]]] = {}
    for file, (systems, seed) in replies.items():
        shown = {name: s for name, s in systems.items() if s.ratio in SLIPPED and not s.scale and (s, "cot") in rows}
        table = read_predictions(file) if shown else pd.DataFrame()
        for name, system in shown.items():
            wrong = right & (rows[system, "cot"][seed] < RIGHT)
            own = slips(_chains(table, name, system, questions), teachers, wrong)
            found.setdefault(system, {})[seed] = own
    return {system: np.stack([own[seed] for seed in sorted(own)]) for system, own in found.items()}


def _chains(predictions: pd.DataFrame, name: str, system: System, questions: pd.DataFrame) -> list[str]:
    """The chains of thought of the system that is called ``name``, in the order of ``questions``."""
    own = predictions[(predictions["system"] == name) & (predictions["prompt"] == "cot")]
    return list(_in_order(own, "prediction", system, questions))


def _losses(params: Params, data: Path) -> pd.DataFrame:
    """The KL of every distillation, by pictures seen."""
    columns = ("scale", "compressor", "ratio", "seed")
    points = (point for grid in params.grids.values() for point in grid.points(params.scale))
    tables = []
    for scale, compressor, ratio, seed in dict.fromkeys(tuple(point[key] for key in columns) for point in points):
        file = data / scale / f"{compressor}-r{ratio}-s{seed}/distill.csv"
        table = read_table(file, "distill", "losses", numbers=["step", "kl"])[["step", "kl"]]
        batch = load(scale=scale).scale_config.distill.batch_size
        place = {
            "scale": "" if scale == params.scale else scale,
            "compressor": compressor,
            "ratio": ratio,
            "seed": seed,
        }
        tables.append(table.assign(**place, pictures=table["step"] * batch))
    return pd.concat(tables, ignore_index=True)


def _pictures(scale: str) -> int:
    """Pictures that a distillation of ``scale`` reads."""
    budget = load(scale=scale).scale_config.distill
    return budget.steps * budget.batch_size


def _removed(params: Params, data: Path) -> dict[tuple[System, str], float]:
    """What students whose tiles lose one of two shares remove of each benchmark's pictures."""
    files: dict[System, Path] = {}  # one for each: the threshold does not depend on the seed
    for file, systems, _ in _students(params):
        for system in systems.values():
            if system.stage == DISTILLED and not system.scale and len(tile_ratios(system.kind, system.ratio)) > 1:
                files.setdefault(system, data / file.with_name("student.safetensors"))
    if not files:
        return {}
    images = load_processor(data / params.scale / "teacher").image_processor
    complexities = {
        name: [
            tile_complexity(tile)
            for record in read_records(data / params.mix / "benchmarks" / name)
            for tile in images(record.decode(), max_tiles=settings.max_tiles)["pixel_values"]
        ]
        for name, settings in params.mix_config.benchmarks.items()
    }
    thresholds = {system: read_student_tensors(file)[1].options["threshold"] for system, file in files.items()}
    return {
        (system, name): mean_removed_ratio(found, threshold, tile_ratios(system.kind, system.ratio))
        for system, threshold in thresholds.items()
        for name, found in complexities.items()
    }


def _costs(params: Params, systems: set[System]) -> dict[System, Cost]:
    """What each system costs of what the teacher does."""
    with torch.device("meta"):
        teacher = InternVLForConditionalGeneration(teacher_config(params.scale_config.model.architecture))

    def absolute(system: System) -> counted.Cost:
        if system.stage:
            options = params.compressors.get(system.kind, {})
            student = FcotvlConfig.from_teacher(
                teacher.config, compressor=system.kind, ratio=system.ratio, options=options
            )
            return counted.cost(student, tiles=1, text_tokens=TEXT_TOKENS)
        if system == TEACHER:
            return counted.cost(teacher.config, tiles=1, text_tokens=TEXT_TOKENS)
        with torch.device("meta"):
            built = pruning.build(system.kind, teacher, ratio=system.ratio, layer=params.baselines.fastv_layer)
        return counted.cost(built.model.config, tiles=1, text_tokens=TEXT_TOKENS, pruning=built.pruning)

    whole = absolute(TEACHER)
    found = {system: absolute(system) for system in systems}
    return {
        system: Cost((own.connector + own.prefill) / (whole.connector + whole.prefill), own.kv_bytes / whole.kv_bytes)
        for system, own in found.items()
    }


def _facts(params: Params, questions: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """What was run, for the top of the page."""
    counts = next(iter(questions.values())).groupby("benchmark", sort=False).size()
    return {
        "scale": f"{params.scale} ({params.scale_config.title})",
        "mix": f"{params.mix} ({params.mix_config.title})",
        "questions under each prompt": ", ".join(f"{name} {count:,}" for name, count in counts.items()),
        "commit": commit(),
    }


def _describe(grid: Grid) -> str:
    """A grid in words."""
    axes = {"compressor": grid.compressor, "ratio": grid.ratio, "seed": grid.seed, "recipe": grid.recipe}
    axes |= {"scale": grid.scale}
    parts = [f"{name} {', '.join(map(str, values))}" for name, values in axes.items() if values]
    return f"{grid.title}: {'; '.join(parts)}."
