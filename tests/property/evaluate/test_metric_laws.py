"""Properties of metrics for any strings."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fcotvl.core.literals import read_list
from fcotvl.evaluate import metrics

texts = st.text(max_size=12) | st.sampled_from(["5", "5%", "0", "2010", "-1e3", "nan", "[1, 2]"])
lists = st.lists(texts, min_size=1, max_size=4)
numbers = st.integers(-10_000, 10_000)
EVERY = pytest.mark.parametrize("name", metrics.available())
CONSENSUS = {"vqa_accuracy"}
"""Metrics that count how many references agree: a further one may disagree, and a lone one convinces nobody."""
BEST = pytest.mark.parametrize("name", sorted({*metrics.available()} - CONSENSUS))


@EVERY
@given(prediction=texts, references=lists)
def test_a_score_is_between_zero_and_one(name, prediction, references):
    assert 0 <= metrics.get(name)(prediction, references) <= 1


@BEST
@given(prediction=texts, references=lists, more=lists)
def test_more_references_never_hurt(name, prediction, references, more):
    # To VLMEvalKit a lone list is the list of references: with others beside it, it is one of them.
    assume(name != "relaxed_vlmevalkit" or len(references) > 1 or not read_list(references[0]))
    score = metrics.get(name)
    assert score(prediction, references + more) >= score(prediction, references)


@EVERY
@given(prediction=texts, references=lists)
def test_the_order_of_references_does_not_matter(name, prediction, references):
    score = metrics.get(name)
    assert score(prediction, references) == score(prediction, references[::-1])


@BEST
@given(word=st.text(alphabet="abcdefgh", min_size=1, max_size=12))
def test_a_word_matches_itself(name, word):
    assert metrics.get(name)(word, [word]) == 1


@pytest.mark.parametrize("name", sorted(CONSENSUS))
@given(prediction=texts, others=st.lists(texts, min_size=6, max_size=6))
def test_four_of_ten_who_agree_are_enough(name, prediction, others):
    assert metrics.get(name)(prediction, [prediction] * 4 + others) == pytest.approx(1)


@pytest.mark.parametrize("name", sorted(CONSENSUS))
@given(prediction=texts, answers=st.lists(texts, min_size=10, max_size=10), place=st.integers(0, 9))
def test_one_more_who_agrees_never_hurts(name, prediction, answers, place):
    score = metrics.get(name)
    agreeing = [*answers[:place], prediction, *answers[place + 1 :]]
    assert score(prediction, agreeing) >= score(prediction, answers)


@pytest.mark.parametrize("name", ["anls", "exact_match"])
@given(one=texts, other=texts)
def test_similarity_is_symmetric(name, one, other):
    score = metrics.get(name)
    assert score(one, [other]) == score(other, [one])


@given(answer=numbers, reference=numbers)
def test_internvl_is_lmms_with_its_arguments_swapped(answer, reference):
    swapped = metrics.get("relaxed_lmms")(str(reference), [str(answer)])
    assert metrics.get("relaxed_internvl")(str(answer), [str(reference)]) == swapped


@given(answer=numbers, reference=numbers)
def test_strict_accepts_no_number_that_others_refuse(answer, reference):
    assume(reference)
    strict = metrics.get("relaxed_strict")(str(answer), [str(reference)])
    assert strict <= metrics.get("relaxed_vlmevalkit")(str(answer), [str(reference)])
