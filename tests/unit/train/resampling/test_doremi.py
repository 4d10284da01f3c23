import math

import pytest

from fcotvl.core.config import ResamplingParams
from fcotvl.train.resampling import MeanLoss
from fcotvl.train.resampling.doremi import weigh

WIDE = ResamplingParams(eta=1.0, alpha=1.0, floor=0.0, cap=2.0)
EVEN = {"a": 0.5, "b": 0.5}


def test_weights_grow_with_the_exponential_of_the_excess():
    """Excess ln 2 against none: 2 to 1."""
    weights = weigh(EVEN, [{"a": MeanLoss(1 + math.log(2), 1.0), "b": MeanLoss(1.0, 1.0)}], WIDE)
    assert weights == pytest.approx({"a": 2 / 3, "b": 1 / 3})


def test_updates_add_up():
    window = {"a": MeanLoss(1 + math.log(2), 1.0), "b": MeanLoss(1.0, 1.0)}
    assert weigh(EVEN, [window, window], WIDE) == pytest.approx({"a": 0.8, "b": 0.2})


def test_a_student_better_than_the_teacher_counts_as_equal():
    window = {"a": MeanLoss(0.1, 1.0), "b": MeanLoss(1.0, 1.0)}
    assert weigh(EVEN, [window], WIDE) == pytest.approx(EVEN)


def test_a_data_set_that_was_not_sampled_keeps_its_excess():
    first = {"a": MeanLoss(1 + math.log(2), 1.0), "b": MeanLoss(1.0, 1.0)}
    second = {"b": MeanLoss(1.0, 1.0)}
    assert weigh(EVEN, [first, second], WIDE) == pytest.approx({"a": 0.8, "b": 0.2})


def test_an_excess_too_large_for_exp_meets_the_cap():
    window = {"a": MeanLoss(5000.0, 0.0), "b": MeanLoss(0.0, 0.0)}
    bounds = ResamplingParams(eta=1.0, alpha=1.0, floor=0.2, cap=2.0)
    assert weigh(EVEN, [window], bounds) == pytest.approx({"a": 0.9, "b": 0.1})
