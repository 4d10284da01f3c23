"""Power: weights follow the last losses directly, initial * (loss / mean loss) ** alpha."""

from collections.abc import Sequence

from fcotvl.core.config import ResamplingParams
from fcotvl.train.resampling import Weights, Window, bounded


def weigh(initial: Weights, windows: Sequence[Window], limits: ResamplingParams) -> Weights:
    """Scale the initial weights by each data set's latest loss, relative to the mean of all.

    A data set that was never sampled counts as average. High loss may be noise, hence the cap.
    """
    losses: dict[str, float] = {}
    for window in windows:
        losses |= {name: mean.loss for name, mean in window.items()}
    average = sum(losses.values()) / len(losses) if losses else 0.0
    if not average:
        return bounded(initial, initial, limits)
    factor = {name: (losses.get(name, average) / average) ** limits.alpha for name in initial}
    return bounded({name: w * factor[name] for name, w in initial.items()}, initial, limits)
