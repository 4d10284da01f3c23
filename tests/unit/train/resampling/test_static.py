from fcotvl.train.resampling import Mean, Settings
from fcotvl.train.resampling.static import weigh


def test_nothing_moves_the_mix():
    start = {"a": 0.99, "b": 0.01}
    bounds = Settings(eta=1.0, alpha=1.0, floor=0.5, cap=1.5)
    assert weigh(start, [{"b": Mean(100.0, 0.0)}], bounds) == start
