"""What fine-tuned students keep of the teacher's score: on a study's own questions, on others, and on all.

    make study
    python benchmarks/retention.py --params workflow/study.yaml --grid longer --data-seed 101 --output long.csv

The others are of a second curation with another ``data_seed``, by which nothing in the study was chosen. The teacher
and the student of every seed are asked them as the study asks its own, one after another; what is there already is not
asked again. Percent of the teacher's macro mean, with 95 % intervals over questions and seeds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from fcotvl.core import config
from fcotvl.evaluate.effects import Effect, effect, retained
from fcotvl.report.inputs import read_scores
from fcotvl.stages.study import headline

QUESTION = ["benchmark", "image_id", "question_id"]


def fcotvl(*arguments: object) -> None:
    """Run a stage; it says what is wrong itself."""
    code = subprocess.run([sys.executable, "-m", "fcotvl", *map(str, arguments)], check=False).returncode
    if code:
        sys.exit(code)


def ask(folder: Path, name: str, arguments: Sequence[object]) -> Path:
    """The scores of one system on the questions of ``folder``, which it is asked unless it has been."""
    replies, scores = folder / f"{name}.parquet", folder / f"{name}-scores.parquet"
    if not scores.exists():
        fcotvl("predict", *arguments, "--benchmarks", folder / "benchmarks", "--predictions", replies)
        fcotvl("score", "--predictions", replies, "--scores", scores)
    return scores


def scores_of(file: Path, system: str) -> pd.Series:
    """The score of each question under each prompt, by the headline metric of its benchmark."""
    table = headline(read_scores(file))
    return table[table["system"] == system].set_index(["prompt", *QUESTION])["score"]


def kept(teachers: Sequence[pd.Series], students: Sequence[Sequence[pd.Series]], prompt: str) -> Effect:
    """Percent of the teacher's score that students keep.

    Args:
        teachers: its scores on each set of questions.
        students: on each set, the scores of the student of each seed.
        prompt: the one that counts.
    """
    whole = pd.concat([scores.loc[prompt] for scores in teachers], keys=range(len(teachers)))
    rows = [
        pd.concat([scores.loc[prompt] for scores in own], keys=range(len(own))).reindex(whole.index).to_numpy()
        for own in zip(*students, strict=True)
    ]
    families = list(whole.index.get_level_values("benchmark"))
    images = list(zip(whole.index.get_level_values(0), whole.index.get_level_values("image_id"), strict=True))
    return effect(retained(np.stack(rows), whole.to_numpy(), families), images, families)


def main() -> None:
    """Ask the other questions, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, required=True, help="the study: values in place of those of params.yaml")
    parser.add_argument("--grid", required=True, help="of one compressor, ratio and recipe: its students are asked")
    parser.add_argument("--data-seed", type=int, required=True, help="of the other questions")
    parser.add_argument("--output", type=Path, help="CSV of the table")
    args = parser.parse_args()
    params = config.load(overlay=args.params)
    if args.data_seed == params.data_seed:
        parser.error(f"--data-seed {args.data_seed} is the study's own; name another one")
    grid = params.grids.get(args.grid)
    if grid is None or grid.scale or any(len(axis) != 1 for axis in (grid.compressor, grid.ratio, grid.recipe)):
        parser.error(f"{args.params} has no grid {args.grid} of one compressor, ratio and recipe at its own scale")
    home, system = Path("data", params.scale), f"sft-{grid.recipe[0]}"
    folder = home / f"questions-{args.data_seed}"
    folder.mkdir(parents=True, exist_ok=True)
    overlay = folder / "params.yaml"
    values = yaml.safe_load(args.params.read_text(encoding="utf-8"))
    fewest = {"methods": ["untrained-pool"], "ratios": [0.5]}  # the teacher is asked with training-free systems
    overlay.write_text(yaml.safe_dump(values | {"data_seed": args.data_seed, "baselines": fewest}), encoding="utf-8")
    if not (folder / "audit.json").exists():
        made = ("--corpus", folder / "corpus", "--benchmarks", folder / "benchmarks", "--audit", folder / "audit.json")
        fcotvl("curate", "--mix", params.mix, *made, "--params", overlay)
    common = ("--mix", params.mix, "--teacher", home / "teacher", "--params", overlay)
    teachers = [home / "scores.parquet", ask(folder, "teacher", common)]
    own, others = [], []
    for point in grid.points(params.scale):
        variant = home / f"{point['compressor']}-r{point['ratio']}-s{point['seed']}"
        student = ("--student", variant / point["recipe"] / "checkpoints", "--system", system)
        own.append(variant / f"sft-scores/{point['recipe']}.parquet")
        others.append(ask(folder, f"{variant.name}-{point['recipe']}", (*common, *student)))
    whole = [scores_of(file, "teacher") for file in teachers]
    found = [[scores_of(file, system) for file in files] for files in (own, others)]
    rows = [
        {"asked": name, "prompt": prompt}
        | {key: getattr(result, key) for key in ("value", "low", "high", "questions", "seeds")}
        for name, sets in (("the study's own", [0]), ("others", [1]), ("all", [0, 1]))
        for prompt in ("cot", "direct")
        for result in [kept([whole[i] for i in sets], [found[i] for i in sets], prompt)]
    ]
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="{:.1f}".format))
    if args.output:
        table.to_csv(args.output, index=False)


if __name__ == "__main__":
    main()
