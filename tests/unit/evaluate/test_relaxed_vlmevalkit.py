import pytest

from fcotvl.evaluate.metrics.relaxed_vlmevalkit import score as relaxed_vlmevalkit


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        ("2016", "[2014, 2016]", 1),
        ("0.28", "['0.28']", 1),
        ("[2014, 2016]", "[2014, 2016]", 0),
        ("[gambia, niger]", "[Gambia, Niger]", 1),
        ("gambia", "[Gambia, Niger]", 0),
        ("[]", "[]", 1),
        ("{{}}", "{{}}", 1),
        ("{[1]}", "{[1]}", 1),
    ],
)
def test_a_reference_that_is_a_python_list_stands_for_its_members(prediction, reference, score):
    assert relaxed_vlmevalkit(prediction, [reference]) == score


def test_a_reference_is_never_executed(tmp_path):
    trap = tmp_path / "trap"
    relaxed_vlmevalkit("x", [f"[open({str(trap)!r}, 'w')]"])
    assert not trap.exists()


def test_one_of_several_references_is_a_member_already():
    assert relaxed_vlmevalkit("1", ["[1, 2]", "3"]) == 0
    assert relaxed_vlmevalkit("[1, 2]", ["[1, 2]", "3"]) == 1


def test_a_number_with_too_many_digits_is_compared_as_text():
    text = f"[0x{'f' * 5000}]"
    assert relaxed_vlmevalkit(text, [text]) == 1
