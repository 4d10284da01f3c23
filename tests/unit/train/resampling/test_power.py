import pytest

from fcotvl.core.config import ResamplingParams
from fcotvl.train.resampling import MeanLoss
from fcotvl.train.resampling.power import weigh

INITIAL = {"a": 0.5, "b": 0.5}


def limits(alpha=1.0):
    return ResamplingParams(eta=1.0, alpha=alpha, floor=0.0, cap=2.0)


def test_weights_follow_the_latest_losses():
    windows = [{"a": MeanLoss(9.0, 0.0)}, {"a": MeanLoss(3.0, 0.0), "b": MeanLoss(1.0, 0.0)}]
    assert weigh(INITIAL, windows, limits()) == pytest.approx({"a": 0.75, "b": 0.25})


def test_the_exponent_sharpens():
    windows = [{"a": MeanLoss(3.0, 0.0), "b": MeanLoss(1.0, 0.0)}]
    assert weigh(INITIAL, windows, limits(alpha=2.0)) == pytest.approx({"a": 0.9, "b": 0.1})


def test_a_data_set_that_was_never_sampled_counts_as_average():
    initial = {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}
    windows = [{"a": MeanLoss(3.0, 0.0), "b": MeanLoss(1.0, 0.0)}]
    assert weigh(initial, windows, limits())["c"] == pytest.approx(1 / 3)


def test_without_any_loss_the_initial_weights_stay():
    assert weigh(INITIAL, [], limits()) == INITIAL
    assert weigh(INITIAL, [{"a": MeanLoss(0.0, 0.0)}], limits()) == INITIAL
