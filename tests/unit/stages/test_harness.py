"""lm-eval gives the replies and the scores of the chain, question by question."""

import json

import pandas as pd
import pytest

from fcotvl.compress.checkpoints import make_student, save_student_tensors
from fcotvl.core import config
from fcotvl.core.errors import DataError
from fcotvl.core.shards import write_shards
from fcotvl.report.inputs import Agreement, read_json
from fcotvl.stages import harness, predict, score
from tests.support import corpora, models

QUESTIONS = 3 * 4 * 3
"""Of three benchmarks of four pictures each."""


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Teacher, merged student, and the chain's replies and scores of both."""
    home = tmp_path_factory.mktemp("chain")
    params = config.load(scale="smoke", mix="smoke")
    corpora.write_teacher(home / "teacher")
    student = make_student(models.teacher(), compressor="cnn", ratio=0.5)
    save_student_tensors(student, home / "merged/merged.safetensors", stage="merge")
    for name in params.mix_config.benchmarks:
        records = [corpora.record(number, name, wide=number % 2 == 0) for number in range(4)]
        write_shards(home / "benchmarks" / name, records, shard_size=3)
    asked = {"benchmarks": home / "benchmarks", "teacher": home / "teacher"}
    predict.run(params, **asked, predictions=home / "teacher.parquet")
    predict.run(params, **asked, student=home / "merged", predictions=home / "merged.parquet")
    for name in ("teacher", "merged"):
        score.run(params, predictions=home / f"{name}.parquet", scores=home / f"{name}-scores.parquet")
    return home


def agreement(home, *, replies=("teacher", "merged"), prompt="direct"):
    harness.run(
        config.load(scale="smoke", mix="smoke"),
        benchmarks=home / "benchmarks",
        teacher=home / "teacher",
        student=home / "merged",
        predictions=tuple(home / f"{name}.parquet" for name in replies),
        scores=(home / "teacher-scores.parquet", home / "merged-scores.parquet"),
        prompt=prompt,
        agreement=home / "harness.json",
    )
    return json.loads((home / "harness.json").read_text())


@pytest.mark.parametrize("prompt", ["direct", "cot"])
def test_every_reply_and_score_is_equal(chain, prompt):
    found = agreement(chain, prompt=prompt)
    scores = pd.read_parquet(chain / "teacher-scores.parquet").query("system == 'teacher' and prompt == @prompt")
    everything = {
        "replies": {"equal": QUESTIONS, "total": QUESTIONS, "different": []},
        "scores": {"equal": len(scores), "total": len(scores), "different": []},
    }
    assert found == {"teacher": everything, "merged": everything}
    assert read_json(chain / "harness.json", Agreement, "harness", "x")["teacher"]["replies"]["equal"] == QUESTIONS


def test_what_differs_or_is_missing_is_counted_and_named(chain):
    table = pd.read_parquet(chain / "merged.parquet")
    mine = table.index[(table.system == "merged") & (table.prompt == "direct")]
    table.loc[mine[0], "prediction"] += "!"
    table.drop(mine[1]).to_parquet(chain / "changed.parquet")
    found = agreement(chain, replies=("teacher", "changed"))
    names = [" / ".join(table.loc[i, ["benchmark", "prompt", "question_id"]]) for i in mine[:2]]
    assert sorted(found["merged"]["replies"].pop("different")) == sorted(names)
    assert found["merged"]["replies"] == {"equal": QUESTIONS - 2, "total": QUESTIONS}
    assert found["teacher"]["replies"]["equal"] == QUESTIONS


def test_tables_without_the_system_are_one_line(chain):
    with pytest.raises(DataError, match="the tables have no rows of merged, direct; run predict and score again"):
        agreement(chain, replies=("teacher",))
