"""What ``predict`` says of students that are not there."""

import pytest

from fcotvl.core import config
from fcotvl.core.errors import CheckpointError
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
