"""What holds for every resampling rule, whatever was recorded."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcotvl.core.config import ResamplingParams
from fcotvl.train import resampling
from fcotvl.train.resampling import MeanLoss, bounded

NAMES = ("a", "b", "c", "d")
losses = st.floats(0, 20)
means = st.builds(MeanLoss, losses, losses)
records = st.lists(st.dictionaries(st.sampled_from(NAMES), means, min_size=1), max_size=6)
limits = st.builds(
    ResamplingParams, eta=st.floats(0.01, 10), alpha=st.floats(0.1, 4), floor=st.floats(0, 1), cap=st.floats(1, 4)
)
positive = st.lists(st.floats(1e-6, 1), min_size=4, max_size=4)


def normalised(values):
    total = math.fsum(values)
    return {name: value / total for name, value in zip(NAMES, values, strict=True)}


driven = [name for name in resampling.available() if name != "static"]


@pytest.mark.parametrize("rule", driven)
@given(initial=positive.map(normalised), record=records, bounds=limits)
def test_weights_sum_to_one_and_keep_their_bounds(rule, initial, record, bounds):
    weights = resampling.get(rule)(initial, record, bounds)
    assert list(weights) == list(initial)
    assert math.fsum(weights.values()) == pytest.approx(1, abs=1e-15)
    for name, weight in weights.items():
        assert bounds.floor * initial[name] - 1e-12 <= weight <= bounds.cap * initial[name] + 1e-12


@pytest.mark.parametrize("name", resampling.available())
@given(initial=positive.map(normalised), record=records, bounds=limits)
def test_a_rule_is_a_pure_function_of_the_record(name, initial, record, bounds):
    before = dict(initial)
    first = resampling.get(name)(initial, record, bounds)
    assert resampling.get(name)(initial, record, bounds) == first
    assert initial == before


@pytest.mark.parametrize("name", driven)
@given(low=losses, more=losses, bounds=limits)
def test_the_data_set_with_the_higher_loss_gets_no_less(name, low, more, bounds):
    window = {"a": MeanLoss(low, 1.0), "b": MeanLoss(low + more, 1.0)}
    weights = resampling.get(name)({"a": 0.5, "b": 0.5}, [window], bounds)
    assert weights["b"] >= weights["a"] - 1e-12


@pytest.mark.parametrize("name", ["doremi", "power", "static"])
@given(initial=positive.map(normalised), loss=losses, bounds=limits)
def test_losses_that_are_all_alike_leave_the_mix_as_it_is(name, initial, loss, bounds):
    windows = [dict.fromkeys(NAMES, MeanLoss(loss, 1.0))] * 2
    assert resampling.get(name)(initial, [], bounds) == pytest.approx(initial)
    assert resampling.get(name)(initial, windows, bounds) == pytest.approx(initial)


@given(positive, positive.map(normalised), limits)
def test_bounding_keeps_the_order_of_shares_of_the_initial_weights(values, initial, bounds):
    weights = bounded(dict(zip(NAMES, values, strict=True)), initial, bounds)
    wanted = {name: value / initial[name] for name, value in zip(NAMES, values, strict=True)}
    for one, other in pairwise(sorted(NAMES, key=wanted.__getitem__)):
        assert weights[one] / initial[one] <= weights[other] / initial[other] + 1e-9


@given(positive.map(normalised), positive.map(normalised))
def test_weights_within_their_bounds_stay(weights, initial):
    wide = ResamplingParams(eta=1.0, alpha=1.0, floor=0.0, cap=1e6)
    initial = {name: (initial[name] + 1) / 5 for name in initial}  # so that none is beyond the cap
    assert bounded(weights, initial, wide) == pytest.approx(weights)
