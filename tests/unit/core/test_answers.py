"""The matcher behind rejection sampling and the merge's utility."""

import time

import pytest

from fcotvl.core.answers import final_answer, is_correct, similarity


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("A 4, B 6. 4 + 6 = 10\nAnswer: 10", "10"),
        ("Answer: 3\nno, Answer: 4 \n", "4"),
        ("  Paris ", "Paris"),
        ("Answer: 10\nand more", "10"),
        ("Answer:", ""),
        ("", ""),
    ],
)
def test_the_final_answer_follows_the_last_marker(reply, answer):
    assert final_answer(reply) == answer


@pytest.mark.parametrize(
    ("prediction", "reference", "right"),
    [
        ("100", "105", True),  # 4.8 % of the reference
        ("99", "105", False),
        ("105.2", "100", False),  # relative to the reference, not to the prediction
        ("95", "100", True),
        ("2010", "2009", False),  # a year is exact
        ("2010", "2010", True),
        ("$1,234", "1234", True),
        ("12 %", "12", True),
        ("0", "0", True),
        ("0.01", "0", False),
        ("-5", "5", False),
        ("twelve", "12", False),
        ("12", "twelve", False),
        ("Paris.", "paris", True),
        ("cat", "dog", False),  # a sampler that thresholds the distance calls this right
        ("1234 main street", "1234 main streat", True),
        ("1234 main st", "1234 main street", False),
        ("1_000", "1000", False),
        ("nan", "nan", True),
        ("inf", "1", False),
    ],
)
def test_correctness_is_judged_relative_to_the_reference(prediction, reference, right):
    assert is_correct(prediction, [reference]) is right


def test_any_reference_counts_and_none_is_never_correct():
    assert is_correct("b", ["a", "b"])
    assert not is_correct("", [])


def test_the_threshold_is_a_similarity():
    assert similarity("abcd", "abxy") == 0.5
    assert is_correct("abcd", ["abxy"], min_similarity=0.5)
    assert not is_correct("abcd", ["abxy"], min_similarity=0.51)


@pytest.mark.parametrize("text", ["1" * 50_000 + "x", "1" + "," * 50_000 + "x", "1." + "0" * 50_000 + "x"])
def test_a_long_number_that_is_none_is_refused_at_once(text):
    start = time.process_time()
    assert not is_correct(text, ["7"])
    assert time.process_time() - start < 1
