"""DoReMi's update: data sets on which the student lags behind the teacher are sampled more often.

Source: arXiv 2305.10429, algorithm 1, with the teacher as the reference model.
"""

import math
from collections.abc import Sequence

from fcotvl.core.config import ResamplingParams
from fcotvl.train.resampling import Weights, Window, bounded


def weigh(initial: Weights, windows: Sequence[Window], limits: ResamplingParams) -> Weights:
    """After each window, weight *= exp(eta * excess), where excess = max(loss - reference, 0).

    A data set that was not sampled in a window keeps its excess, which is zero at first.
    """
    weights, excess = bounded(initial, initial, limits), dict.fromkeys(initial, 0.0)
    for window in windows:
        excess |= {name: max(mean.loss - mean.reference, 0.0) for name, mean in window.items()}
        most = max(excess.values())  # a common factor, which bounded() takes out again
        factor = {name: math.exp(limits.eta * (excess[name] - most)) for name in weights}
        weights = bounded({name: w * factor[name] for name, w in weights.items()}, initial, limits)
    return weights
