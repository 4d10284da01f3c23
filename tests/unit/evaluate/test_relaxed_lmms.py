from fcotvl.evaluate.metrics.relaxed_lmms import score as relaxed_lmms


def test_text_is_not_stripped_but_numbers_are_by_float():
    assert relaxed_lmms(" yes", ["yes"]) == 0
    assert relaxed_lmms(" 101 ", ["100"]) == 1
