"""``fcotvl lm-eval`` is lm-eval's command line with our model and tasks, set to the study."""

import json
from pathlib import Path

import pytest

from fcotvl.__main__ import main
from fcotvl.core import config
from fcotvl.core.shards import read_records, write_shards
from fcotvl.evaluate.predict import predict
from fcotvl.evaluate.scoring import score_predictions
from fcotvl.harness import TASKS
from fcotvl.inference.pruned_decoding import System
from fcotvl.stages import lm_eval
from tests.support import corpora, models


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A study whose teacher and two curated benchmarks are where the chain puts them."""
    corpora.write_teacher(tmp_path / "data/smoke/teacher")
    for name in ("docvqa", "infovqa"):
        write_shards(tmp_path / f"data/smoke/benchmarks/{name}", map(corpora.record, range(3)), shard_size=5)
    params = config.load(scale="smoke", mix="smoke")
    monkeypatch.chdir(tmp_path)
    return params


def test_scores_are_those_of_the_chain(workspace):
    params = workspace
    lm_eval.run(
        params,
        (
            "run", "--model", "fcotvl", "--model_args", "pretrained=data/smoke/teacher",
            "--tasks", "fcotvl_docvqa_val,fcotvl_docvqa_val_cot", "--output_path", "found.json",
        ),
    )  # fmt: skip
    found = json.loads(next(Path().glob("found*.json")).read_text())["results"]
    table = predict(
        {"teacher": lambda: System(models.teacher())},
        models.processor(),
        list(read_records(Path("data/smoke/benchmarks/docvqa"))),
        benchmark="docvqa",
        prompts=params.scale_config.prompts,
        max_tiles=params.mix_config.benchmarks["docvqa"].max_tiles,
        batch_size=50,
        folder=Path("windows"),
    )
    expected = score_predictions(table).groupby(["prompt", "metric"])["score"].mean()
    for mode, name in (("direct", "fcotvl_docvqa_val"), ("cot", "fcotvl_docvqa_val_cot")):
        for metric in ("anls", "exact_match"):
            assert found[name][f"{metric},none"] == pytest.approx(expected[mode, metric], abs=1e-12)


def test_every_task_and_group_is_valid(capsys):
    names = sorted(path.stem for path in TASKS.glob("*/*.yaml"))
    lm_eval.run(config.load(), ("validate", "--tasks", ",".join(names)))
    assert "All tasks found and valid" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "fcotvl_docvqa"], "lm-eval: Tasks not found: fcotvl_docvqa"),
        (["--tasks", "fcotvl_docvqa_val", "--log_samples"], "lm-eval: Specify --output_path"),
        (["--tasks", "fcotvl_docvqa_val", "--model_args", "pretrained=none"], "none is not a folder"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, tmp_path, capfd):
    log = str(tmp_path / "lm-eval.log")
    assert main(["lm-eval", "--log", log, "run", "--model", "fcotvl", *arguments]) == 2
    assert message in (lines := capfd.readouterr().err)
    assert "Traceback" not in lines
