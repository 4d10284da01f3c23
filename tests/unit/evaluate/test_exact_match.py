import pytest

from fcotvl.evaluate.metrics.exact_match import score as exact_match


@pytest.mark.parametrize(("prediction", "score"), [("New  york ", 1), ("New York.", 0), ("NewYork", 0), ("", 0)])
def test_only_letter_case_and_white_space_are_forgiven(prediction, score):
    assert exact_match(prediction, ["new york"]) == score
