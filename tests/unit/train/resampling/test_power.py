import pytest

from fcotvl.train.resampling import Mean, Settings
from fcotvl.train.resampling.power import weigh

START = {"a": 0.5, "b": 0.5}


def settings(alpha=1.0):
    return Settings(eta=1.0, alpha=alpha, floor=0.0, cap=2.0)


def test_weights_follow_the_latest_losses():
    windows = [{"a": Mean(9.0, 0.0)}, {"a": Mean(3.0, 0.0), "b": Mean(1.0, 0.0)}]
    assert weigh(START, windows, settings()) == pytest.approx({"a": 0.75, "b": 0.25})


def test_the_exponent_sharpens():
    windows = [{"a": Mean(3.0, 0.0), "b": Mean(1.0, 0.0)}]
    assert weigh(START, windows, settings(alpha=2.0)) == pytest.approx({"a": 0.9, "b": 0.1})


def test_a_data_set_that_was_never_drawn_counts_as_average():
    start = {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}
    windows = [{"a": Mean(3.0, 0.0), "b": Mean(1.0, 0.0)}]
    assert weigh(start, windows, settings())["c"] == pytest.approx(1 / 3)


def test_without_any_loss_the_start_stays():
    assert weigh(START, [], settings()) == START
    assert weigh(START, [{"a": Mean(0.0, 0.0)}], settings()) == START
