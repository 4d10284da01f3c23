import pytest

from fcotvl.core.errors import ParamsError
from fcotvl.train import resampling
from fcotvl.train.resampling import LossRow, MeanLoss, windows


def test_an_unknown_rule_names_the_known_ones():
    with pytest.raises(ParamsError, match="doremi, power, static"):
        resampling.get("bandit")


def test_windows_average_over_items():
    rows = [
        LossRow(1, "a", 2.0, 1, 0.5),
        LossRow(1, "b", 1.0, 2, 0.5),
        LossRow(2, "a", 5.0, 2, 0.5),
        LossRow(3, "a", 7.0, 1, 0.5),
    ]
    first, second = windows(rows, every=2)
    assert first == {"a": MeanLoss(4.0, 0.5), "b": MeanLoss(1.0, 0.5)}
    assert second == {"a": MeanLoss(7.0, 0.5)}
