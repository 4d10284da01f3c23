"""Write tables, plots, the page and the metrics."""

import re
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from fcotvl.core.bootstrap import Bootstrap
from fcotvl.core.config import STUDY, Params
from fcotvl.core.errors import DataError
from fcotvl.core.geometry import compressed, count_tiles
from fcotvl.core.io import write_json, write_text
from fcotvl.core.records import Record
from fcotvl.core.shards import read_records
from fcotvl.evaluate import benchmarks
from fcotvl.evaluate.summary import compare, retention, summarise
from fcotvl.report.files import commit, write_tables
from fcotvl.report.gallery import make_gallery, scored_replies
from fcotvl.report.inputs import Agreement, Audit, Weights, read_json, read_predictions, read_scores, read_table
from fcotvl.report.metrics import metrics, results, scores
from fcotvl.report.page import render_page
from fcotvl.report.plots import all_plots
from fcotvl.report.report_data import Gallery, ReportData, system
from fcotvl.report.tables import all_tables

POINT = re.compile(r"(?P<compressor>[^/]+)-r(?P<ratio>[\d.]+)-s(?P<seed>\d+)/(?P<recipe>[^/]+)$")
"""The folder of a grid point: its variant and its recipe."""
SPEED = ("time", "low", "high", "flops", "pairs")
"""Numbers of ``speed.csv``."""


def run(
    params: Params, *, shared: Path, curated: Path, variant: Path, output: Path, variants: tuple[Path, ...] = ()
) -> None:
    """Write the report of one experiment into the folder ``output``.

    Args:
        params: the study, whose experiment is reported.
        shared: folder of what all variants share (``data/<scale>``).
        curated: folder of the curated data (``data/<mix>``).
        variant: folder of the experiment's variant.
        output: gets ``index.html``, ``metrics.json``, ``scores.json``, ``tables/``, ``figures/`` and ``plots/*.csv``.
        variants: folders of finished grid points (``<variant>/<recipe>``), for the ablation tables.
    """
    report = _read(params, shared, curated, variant, variants)
    tables, plots = all_tables(report), all_plots(report)
    write_text(output / "index.html", render_page(report, tables, plots))
    write_tables(output, tables, plots)
    curves = {name: getattr(report, name) for name in ("distill", "sft", "sampling")}
    for name, data in ({"results": results(report)} | curves).items():
        write_text(output / f"plots/{name}.csv", data.to_csv(index=False, float_format="%.6g"))
    write_json(output / "metrics.json", metrics(report))
    write_json(output / "scores.json", scores(report))


def _read(params: Params, shared: Path, curated: Path, variant: Path, variants: tuple[Path, ...]) -> ReportData:
    recipe = variant / params.recipe
    bootstrap = Bootstrap(resamples=params.score.resamples)
    files = [
        shared / "scores.parquet",
        variant / "scores.parquet",
        recipe / "merged-scores.parquet",
        *(variant / f"sft-scores/{name}.parquet" for name in params.ablation_recipes),
    ]
    scores = pd.concat(map(read_scores, files), ignore_index=True)
    names = list(scores["system"].unique())
    weights = read_json(recipe / "weights.json", Weights, "merge", "the weights of a merge")
    known = {name: benchmarks.get(name) for name in params.mix_config.benchmarks}
    grid, grid_differences = _grid(variants, bootstrap)
    return ReportData(
        facts=_facts(params, scores) | _extent(grid),
        params=STUDY.read_text(encoding="utf-8"),
        benchmarks={name: benchmark.title for name, benchmark in known.items()},
        metrics={name: b.headline.replace("_", " ") for name, b in known.items()},
        student="merged",
        systems=_systems(params, names),
        scores=summarise(scores, bootstrap=bootstrap),
        retention=retention(scores, "teacher", bootstrap=bootstrap),
        differences=compare(scores, _pairs(params, names, weights["methods"]), bootstrap=bootstrap),
        harness=_harness(recipe / "harness.json"),
        kinds=summarise(scores, by=["kind"], bootstrap=bootstrap),
        grid=grid,
        grid_differences=grid_differences,
        methods=pd.DataFrame(
            {"method": name, "utility": 100 * found["utility"], "system": name}
            for name, found in weights["methods"].items()
        ),
        shapley=_shapley(weights),
        gaps=pd.DataFrame(weights["gaps"]),
        speed=read_table(variant / "speed.csv", "speed", "timings", texts=["system", "part"], numbers=SPEED),
        audit=read_json(curated / "audit.json", Audit, "curate", "an audit"),
        acceptance=read_table(shared / "acceptance.csv", "rscot", "kept rationales"),
        distill=read_table(variant / "distill.csv", "distill", "losses", numbers=["step", "loss"]),
        sft=read_table(recipe / "sft.csv", "sft", "losses", texts=["dataset"], numbers=["step", "loss"]),
        sampling=read_table(recipe / "sampling.csv", "sft", "weights", texts=["dataset"], numbers=["step", "weight"]),
        gallery=None if variants else _gallery(params, scores, shared, curated, variant),
    )


def _gallery(params: Params, scores: pd.DataFrame, shared: Path, curated: Path, variant: Path) -> Gallery:
    """Cases from the answers of the training-free systems and of every step to the headline student."""
    recipe = variant / params.recipe
    files = [folder / "predictions.parquet" for folder in (shared, variant, recipe)]
    predictions = pd.concat(map(read_predictions, [*files, recipe / "merged.parquet"]), ignore_index=True)
    mix, tile_size = params.mix_config.benchmarks, params.scale_config.model.tile_size

    def tiles(benchmark: str, record: Record) -> int:
        return count_tiles(record.width, record.height, tile_size=tile_size, max_tiles=mix[benchmark].max_tiles)

    return make_gallery(
        scored_replies(predictions, scores, {name: benchmarks.get(name).headline for name in mix}),
        lambda name: read_records(curated / "benchmarks" / name),
        student="merged",
        tiles=tiles,
    )


def _facts(params: Params, scores: pd.DataFrame) -> dict[str, Any]:
    """What was run, for the top of the page, and what of it the paper does not do."""
    own = {
        "hidden states are matched in distillation": params.distill.hidden_weight > 0,
        "fine-tuned towards the teacher": params.recipes[params.recipe].asks_teacher,
    }
    asked = scores.drop_duplicates(["benchmark", "question_id"]).groupby("benchmark").size()
    return {
        "scale": f"{params.scale} ({params.scale_config.title})",
        "mix": f"{params.mix} ({params.mix_config.title})",
        "compressor": params.compressor,
        "ratio": f"{params.ratio} of the visual tokens removed",
        "positions of visual tokens": params.distill.positions,
        "recipe": params.recipe,
        "seed": params.seed,
        "data seed": params.data_seed,
        "questions": ", ".join(f"{name} {n}" for name, n in asked.items()),
        "commit": commit(),
    } | ({"beyond the paper": ", ".join(words for words, so in own.items() if so)} if any(own.values()) else {})


def _extent(grid: pd.DataFrame | None) -> dict[str, str]:
    """What the grid spans, for the top of its page."""
    if grid is None:
        return {}
    keys = ("compressor", "ratio", "seed")
    return {"grid": "; ".join(f"{key} {', '.join(map(str, sorted(grid[key].unique())))}" for key in keys)}


def _systems(params: Params, names: list[str]) -> pd.DataFrame:
    """What each system of the scores is, in the order of the tables."""
    tokens = params.scale_config.model.tokens
    student: dict[str, Any] = {"ratio": params.ratio, "tokens": compressed(tokens, params.ratio)}
    method = params.merge.headline
    rows = [
        system("teacher", "teacher", ratio=0.0, tokens=tokens),
        *_training_free(params),
        system("distilled", "distilled", **student),
        *(system(f"sft-{name}", "sft", detail=f"recipe {name}", **student) for name in params.ablation_recipes),
        system("merged", "merged", detail=method, **student),
    ]
    if missing := [row["system"] for row in rows if row["system"] not in names]:
        raise DataError(f"no scores of {missing[0]}; run score again")
    return pd.DataFrame(rows)


def _training_free(params: Params) -> list[dict[str, Any]]:
    """The training-free systems, each with the number of tokens that it states when built without memory."""
    import torch  # noqa: PLC0415 - seconds that importing this module need not take
    from transformers import InternVLForConditionalGeneration  # noqa: PLC0415

    from fcotvl.inference import pruning  # noqa: PLC0415
    from fcotvl.internvl.architectures import teacher_config  # noqa: PLC0415

    layer, rows = params.baselines.fastv_layer, []
    with torch.device("meta"):
        teacher = InternVLForConditionalGeneration(teacher_config(params.scale_config.model.architecture))
        for name, ratio in product(params.baselines.methods, params.baselines.ratios):
            tokens = pruning.build(name, teacher, ratio=ratio, layer=layer).tokens
            rows.append(system(f"{name}-r{ratio}", name, ratio=ratio, tokens=tokens))
    return rows


def _pairs(params: Params, names: list[str], methods: Iterable[str]) -> list[tuple[str, str]]:
    """Which systems are compared on the same questions: each step with the one before it."""
    steps = ["distilled", *(f"sft-{name}" for name in params.ablation_recipes), "merged"]
    pairs = [("merged", "teacher"), ("merged", "distilled")]
    pairs += list(zip(steps[1:], steps, strict=False))
    for baseline in params.baselines.methods:
        name = f"{baseline}-r{params.ratio}"
        pairs += [(student, name) for student in ("merged", "distilled") if name in names]
    pairs += [("merged", f"sft-{params.recipe}")]
    headline = params.merge.headline
    pairs += [("merged", name) for name in methods if name in names and name != headline]
    return list(dict.fromkeys(pairs))


def _harness(path: Path) -> pd.DataFrame:
    """How far lm-eval agrees, a row for each system and thing that was compared."""
    found = read_json(path, Agreement, "harness", "a comparison with lm-eval")
    rows = [{"system": system, "what": what} | counts for system, own in found.items() for what, counts in own.items()]
    return pd.DataFrame(rows)


def _shapley(weights: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        {"checkpoint": checkpoint}
        | {name: 100 * found[name] for name in ("value", "low", "high")}
        | {f"weight_{name}": method["weights"].get(checkpoint, 0.0) for name, method in weights["methods"].items()}
        for checkpoint, found in weights["shapley"].items()
    )


def _grid(variants: tuple[Path, ...], bootstrap: Bootstrap) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """Scores of the grid's points, and paired differences between compressors."""
    tables = []
    for folder in variants:
        point = POINT.search(folder.as_posix())
        if point is None:
            raise DataError(f"{folder} is not <compressor>-r<ratio>-s<seed>/<recipe>")
        merged = read_scores(folder / "merged-scores.parquet")
        place = {"ratio": float(point["ratio"]), "seed": int(point["seed"])}
        tables += [
            table.assign(compressor=point["compressor"], **place, stage=stage)
            for table, stage in (
                (merged[merged["system"] == "merged"], point["recipe"]),
                (read_scores(folder.parent / "scores.parquet"), "distilled"),
            )
        ]
    if not tables:
        return None, None
    keys = ["compressor", "ratio", "seed", "stage"]
    scores = pd.concat(tables, ignore_index=True)
    scores = scores.drop_duplicates([*keys, "benchmark", "prompt", "metric", "question_id"])
    summaries, differences = [], []
    labels: dict[str, Any]
    for values, part in scores.groupby(keys):
        labels = dict(zip(keys, values, strict=True))
        summaries.append(summarise(part, bootstrap=bootstrap).assign(**labels))
    for values, part in scores.groupby(keys[1:]):
        labels = dict(zip(keys[1:], values, strict=True))
        names = sorted(part["compressor"].unique())
        pairs = [(one, other) for one in names for other in names if one != other]
        table = compare(part.assign(system=part["compressor"]), pairs, bootstrap=bootstrap)
        table = table.rename(columns={"system": "compressor"})
        differences.append(table.assign(**labels))
    summary = pd.concat(summaries, ignore_index=True)
    paired = pd.concat(differences, ignore_index=True)
    headline = paired["headline"].astype(bool)  # without pairs the column has no type
    return summary[summary["headline"]], paired[headline]
