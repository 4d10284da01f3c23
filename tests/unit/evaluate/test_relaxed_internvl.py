import pytest

from fcotvl.evaluate.metrics.relaxed_internvl import score as relaxed_internvl


@pytest.mark.parametrize(("prediction", "score"), [("105.263", 1), ("105.264", 0), ("95.2", 0)])
def test_the_tolerance_is_relative_to_the_answer_of_the_model(prediction, score):
    assert relaxed_internvl(prediction, ["100"]) == score


def test_a_reference_of_zero_accepts_no_number_but_itself():
    assert relaxed_internvl("0.001", ["0"]) == 0
    assert relaxed_internvl("0", ["0"]) == 1
