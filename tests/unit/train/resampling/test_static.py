from fcotvl.core.config import ResamplingParams
from fcotvl.train.resampling import MeanLoss
from fcotvl.train.resampling.static import weigh


def test_nothing_moves_the_mix():
    initial = {"a": 0.99, "b": 0.01}
    bounds = ResamplingParams(eta=1.0, alpha=1.0, floor=0.5, cap=1.5)
    assert weigh(initial, [{"b": MeanLoss(100.0, 0.0)}], bounds) == initial
