"""Stage ``report``: tables, plots, one page and the metrics that experiments are compared by."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from fcotvl.core import config as params_module
from fcotvl.core.bootstrap import Bootstrap
from fcotvl.core.config import Params
from fcotvl.core.errors import DataError
from fcotvl.core.geometry import compressed
from fcotvl.core.io import atomic, write_json, write_text
from fcotvl.evaluate import benchmarks
from fcotvl.evaluate.summary import compare, retention, summarise
from fcotvl.report.metrics import metrics
from fcotvl.report.page import render_page
from fcotvl.report.report_data import Inputs, system
from fcotvl.report.table import render
from fcotvl.report.tables import all_tables

POINT = re.compile(r"(?P<compressor>[^/]+)-r(?P<ratio>[\d.]+)-s(?P<seed>\d+)/(?P<recipe>[^/]+)$")
"""How the folder of a variant's recipe names it."""


def run(
    params: Params, *, shared: Path, variant: Path, output: Path, variants: tuple[Path, ...] = ()
) -> None:
    """Write the report of one experiment into the folder ``output``.

    Args:
        params: the study; the experiment is the one it describes.
        shared: folder of what all variants share (``data/<scale>``).
        variant: the experiment's folder below it.
        output: gets ``index.html``, ``metrics.json``, ``tables/`` and ``plots/*.csv``.
        variants: folders of finished grid points (``<variant>/<recipe>``), for the ablation tables.
    """
    inputs = _read(params, shared, variant, variants)
    tables = all_tables(inputs)
    write_text(output / "index.html", render_page(inputs, tables))
    with atomic(output / "tables") as scratch:
        scratch.mkdir()
        for table in tables:
            for suffix, text in render(table).items():
                (scratch / f"{table.name}.{suffix}").write_text(text, encoding="utf-8")
    for name in ("distill", "sft", "sampling"):
        data: pd.DataFrame = getattr(inputs, name)
        write_text(output / f"plots/{name}.csv", data.to_csv(index=False, float_format="%.6g"))
    write_json(output / "metrics.json", metrics(inputs))


def _read(params: Params, shared: Path, variant: Path, variants: tuple[Path, ...]) -> Inputs:
    recipe = variant / params.recipe
    bootstrap = Bootstrap(resamples=params.score.resamples)
    parts = [
        shared / "scores.parquet",
        variant / "scores.parquet",
        recipe / "merged-scores.parquet",
    ]
    parts += [variant / f"modules/{module}.parquet" for module in params.ablation_recipes]
    scores = pd.concat([pd.read_parquet(part) for part in parts], ignore_index=True)
    names = list(scores["system"].unique())
    weights = json.loads((recipe / "weights.json").read_text(encoding="utf-8"))
    known = {name: benchmarks.get(name) for name in params.mix_config.benchmarks}
    grid, grid_differences = _grid(variants, bootstrap)
    return Inputs(
        facts=_facts(params, scores),
        params=params_module.STUDY.read_text(encoding="utf-8"),
        benchmarks={name: benchmark.title for name, benchmark in known.items()},
        metrics={name: b.headline.replace("_", " ") for name, b in known.items()},
        student="merged",
        systems=_systems(params, names),
        scores=summarise(scores, bootstrap=bootstrap),
        retention=retention(scores, "teacher", bootstrap=bootstrap),
        differences=compare(scores, _pairs(params, names, weights["rules"]), bootstrap=bootstrap),
        kinds=summarise(scores, by=["kind"], bootstrap=bootstrap),
        grid=grid,
        grid_differences=grid_differences,
        rules=_rules(weights),
        shapley=_shapley(weights),
        gaps=pd.DataFrame(weights["gaps"]),
        speed=pd.read_csv(variant / "speed.csv"),
        audit=json.loads((shared / "audit.json").read_text(encoding="utf-8")),
        acceptance=pd.read_csv(shared / "acceptance.csv"),
        distill=pd.read_csv(variant / "distill.csv"),
        sft=pd.read_csv(recipe / "sft.csv"),
        sampling=pd.read_csv(recipe / "sampling.csv"),
    )


def _facts(params: Params, scores: pd.DataFrame) -> dict[str, Any]:
    """What was run, for the top of the page."""
    asked = scores.drop_duplicates(["benchmark", "question_id"]).groupby("benchmark").size()
    return {
        "scale": f"{params.scale} ({params.scale_config.title})",
        "compressor": params.compressor,
        "ratio": f"{params.ratio} of the visual tokens removed",
        "recipe": params.recipe,
        "seed": params.seed,
        "data seed": params.data_seed,
        "questions": ", ".join(f"{name} {n}" for name, n in asked.items()),
        "commit": _commit(),
    }


def _commit() -> str:
    """The commit that the code was at, or nothing outside Git."""
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 - the user's own git
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "none"


def _systems(params: Params, names: list[str]) -> pd.DataFrame:
    """What each system of the scores is, in the order of the tables."""
    whole = params.scale_config.model.tokens
    rows = [system("teacher", "teacher", ratio=0.0, tokens=whole)]
    for role, prefix in (("fastv", "fastv"), ("random", "random"), ("pooled", "untrained-pool")):
        for ratio in params.baselines.ratios:
            tokens = compressed(whole, ratio)
            rows.append(system(f"{prefix}-r{ratio}", role, ratio=ratio, tokens=tokens))
    student: dict[str, Any] = {
        "ratio": params.ratio,
        "tokens": compressed(whole, params.ratio),
    }
    rows.append(system("distilled", "distilled", **student))
    rows += [
        system(f"sft-{m}", "sft", detail=f"recipe {m}", **student) for m in params.ablation_recipes
    ]
    rule = params.recipes[params.recipe].merge
    rows.append(system("merged", "merged", detail=rule, **student))
    missing = [row["system"] for row in rows if row["system"] not in names]
    if missing:
        raise DataError(f"no scores of {missing[0]}; run score again")
    return pd.DataFrame(rows)


def _pairs(params: Params, names: list[str], rules: Iterable[str]) -> list[tuple[str, str]]:
    """Which systems are compared on the same questions: each step with the one before it."""
    steps = ["distilled", *(f"sft-{module}" for module in params.ablation_recipes), "merged"]
    pairs = [("merged", "teacher"), ("merged", "distilled")]
    pairs += list(zip(steps[1:], steps, strict=False))
    for kind in ("fastv", "random", "untrained-pool"):
        name = f"{kind}-r{params.ratio}"
        pairs += [(one, name) for one in ("merged", "distilled") if name in names]
    pairs += [("merged", f"sft-{params.recipe}")]
    headline = params.recipes[params.recipe].merge
    pairs += [("merged", rule) for rule in rules if rule in names and rule != headline]
    return list(dict.fromkeys(pairs))


def _rules(weights: dict[str, Any]) -> pd.DataFrame:
    rows = [
        {"rule": rule, "utility": 100 * found["utility"], "system": rule}
        for rule, found in weights["rules"].items()
    ]
    return pd.DataFrame(rows)


def _shapley(weights: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for checkpoint, found in weights["shapley"].items():
        points = {name: 100 * found[name] for name in ("value", "low", "high")}
        shares = {
            f"weight_{rule}": made["weights"].get(checkpoint, 0.0)
            for rule, made in weights["rules"].items()
        }
        rows.append({"checkpoint": checkpoint} | points | shares)
    return pd.DataFrame(rows)


def _grid(
    variants: tuple[Path, ...], bootstrap: Bootstrap
) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """Scores of the grid's points, and paired differences between compressors."""
    tables = []
    for folder in variants:
        found = POINT.search(folder.as_posix())
        if found is None:
            raise DataError(f"{folder} is not <compressor>-r<ratio>-s<seed>/<recipe>")
        point = found.groupdict()
        place = {"compressor": point["compressor"], "ratio": float(point["ratio"])}
        place["seed"] = int(point["seed"])
        merged = pd.read_parquet(folder / "merged-scores.parquet")
        merged = merged[merged["system"] == "merged"]
        distilled = pd.read_parquet(folder.parent / "scores.parquet")
        tables.append(merged.assign(stage=point["recipe"], **place))
        tables.append(distilled.assign(stage="distilled", **place))
    if not tables:
        return None, None
    scores = pd.concat(tables, ignore_index=True)
    keys = ["compressor", "ratio", "seed", "stage"]
    scores = scores.drop_duplicates([*keys, "benchmark", "prompt", "metric", "question_id"])
    summaries, differences = [], []
    for _, part in scores.groupby(keys):
        summaries.append(_at(summarise(part, bootstrap=bootstrap), part, keys))
    for _, part in scores.groupby(keys[1:]):
        renamed = part.assign(system=part["compressor"])
        present = sorted(renamed["system"].unique())
        pairs = [(one, other) for one in present for other in present if one != other]
        table = compare(renamed, pairs, bootstrap=bootstrap).rename(
            columns={"system": "compressor"}
        )
        differences.append(_at(table, part, keys[1:]))
    summary = pd.concat(summaries, ignore_index=True)
    paired = pd.concat(differences, ignore_index=True)
    headline = paired["headline"].astype(bool)  # without pairs the column has no type
    return summary[summary["headline"]], paired[headline]


def _at(table: pd.DataFrame, part: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """``table`` with the columns ``keys``, which are constant in ``part``."""
    return table.assign(**{key: part[key].iloc[0] for key in keys})
