"""DoReMi's update: data sets on which the student lags behind the teacher are drawn more often.

Source: arXiv 2305.10429, algorithm 1, with the teacher as the reference model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fcotvl.train.resampling import Settings, Weights, Window, bounded


def weigh(start: Weights, windows: Sequence[Window], settings: Settings) -> Weights:
    """After each window, weight *= exp(eta * excess), where excess = max(loss - reference, 0).

    A data set that was not drawn in a window keeps the excess it had before; unknown is zero.
    """
    weights, excess = bounded(start, settings), dict.fromkeys(start, 0.0)
    for window in windows:
        excess |= {name: max(mean.loss - mean.reference, 0.0) for name, mean in window.items()}
        most = max(excess.values())  # a common factor, which bounded() takes out again
        factor = {name: math.exp(settings.eta * (excess[name] - most)) for name in weights}
        weights = bounded({name: w * factor[name] for name, w in weights.items()}, settings)
    return weights
