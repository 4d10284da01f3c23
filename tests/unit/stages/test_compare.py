"""Two runs on the same questions, side by side."""

import pandas as pd
import pytest

from fcotvl.core import config as params
from fcotvl.core.errors import DataError
from fcotvl.evaluate.scoring import score_predictions
from fcotvl.stages import compare


def write(path, right, questions=range(8), system="distilled"):
    """Scores of a run that answers the first ``right`` of its questions."""
    replies = [
        {
            "system": system,
            "benchmark": "docvqa",
            "prompt": prompt,
            "kind": "extractive",
            "image_id": str(question),
            "question_id": str(question),
            "prediction": "a" if question < right else "b",
            "references": ["a"],
        }
        for question in questions
        for prompt in ("direct", "cot")
    ]
    score_predictions(pd.DataFrame(replies)).to_parquet(path)
    return path


@pytest.fixture
def compared(tmp_path, capsys):
    study = params.load()

    def run(scores, beside):
        compare.run(study, scores=scores, beside=beside)
        return capsys.readouterr().out.splitlines()

    return run


def test_the_second_minus_the_first_with_n_and_interval(tmp_path, compared):
    one, two = write(tmp_path / "one", 2), write(tmp_path / "two", 6)
    direct, cot = compared(one, two)[2:]
    assert [cell.strip() for cell in direct.split("|")[1:5]] == ["distilled", "docvqa", "direct", "8"]
    assert "| cot " in cot
    value, low, high = direct.split("|")[5].replace("[", "").replace("]", "").split()
    assert value == "+50.0"
    assert 0 < float(low.rstrip(",")) < 50 < float(high) <= 100
    assert "-50.0" in compared(two, one)[2]


def test_only_questions_of_both_count(tmp_path, compared):
    one, two = write(tmp_path / "one", 2), write(tmp_path / "two", 6, range(4, 10))
    assert compared(one, two)[2].split("|")[4].strip() == "4"


def test_what_cannot_be_compared_is_one_line(tmp_path, compared):
    one = write(tmp_path / "one", 2)
    with pytest.raises(DataError, match="share no system and question"):
        compared(one, write(tmp_path / "other", 2, system="teacher"))
    with pytest.raises(DataError, match="share no system and question"):
        compared(one, write(tmp_path / "later", 2, range(20, 24)))
    with pytest.raises(DataError, match="nowhere is not a table of scores"):
        compared(one, tmp_path / "nowhere")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "table")
    with pytest.raises(DataError, match="it has no benchmark, image_id"):
        compared(one, tmp_path / "table")
