"""Which questions ``predict`` counts as one picture's, and what it says of students that are not there."""

from dataclasses import replace

import pandas as pd
import pytest

from fcotvl.core import config
from fcotvl.core.errors import CheckpointError
from fcotvl.core.shards import write_shards
from fcotvl.stages import predict
from tests.support import corpora

STUDY = config.load(scale="smoke", mix="smoke")


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ("student.safetensors", r"student\.safetensors cannot be read \(No such file or directory\); run distill"),
        (".", r"holds no safetensors; run the stage that writes it"),
    ],
)
def test_a_student_that_is_not_there_is_one_line(tmp_path, student, message):
    asked = {"benchmarks": tmp_path / "benchmarks", "teacher": corpora.write_teacher(tmp_path / "teacher")}
    answers = tmp_path / "predictions.parquet"
    with pytest.raises(CheckpointError, match=message):
        predict.run(STUDY, **asked, student=tmp_path / student, predictions=answers)
    assert not answers.exists()


def test_questions_about_equal_pictures_are_of_one_picture(tmp_path):
    one, other = (corpora.record(number, "test") for number in (1, 2))
    again = replace(one, id="again", turns=tuple(replace(turn, id=f"again-{turn.id}") for turn in one.turns))
    for name in STUDY.mix_config.benchmarks:
        write_shards(tmp_path / "benchmarks" / name, [one, other, again], shard_size=5)
    teacher, answers = corpora.write_teacher(tmp_path / "teacher"), tmp_path / "predictions.parquet"
    params = STUDY.model_copy(update={"baselines": STUDY.baselines.model_copy(update={"methods": ()})})
    predict.run(params, benchmarks=tmp_path / "benchmarks", teacher=teacher, predictions=answers)
    found = pd.read_parquet(answers).groupby("benchmark")[["image_id", "question_id"]].nunique()
    assert found["image_id"].tolist() == [2] * len(found)
    assert found["question_id"].tolist() == [9] * len(found)
