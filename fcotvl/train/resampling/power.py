"""Power: weights follow the last losses directly, start * (loss / mean loss) ** alpha."""

from __future__ import annotations

from collections.abc import Sequence

from fcotvl.train.resampling import Settings, Weights, Window, bounded


def weigh(start: Weights, windows: Sequence[Window], settings: Settings) -> Weights:
    """Raise or lower the start by each data set's latest loss, relative to the mean of all.

    A data set that was never drawn counts as average. High loss may be noise, hence the cap.
    """
    losses: dict[str, float] = {}
    for window in windows:
        losses |= {name: mean.loss for name, mean in window.items()}
    average = sum(losses.values()) / len(losses) if losses else 0.0
    if not average:
        return bounded(start, settings)
    factor = {name: (losses.get(name, average) / average) ** settings.alpha for name in start}
    return bounded({name: w * factor[name] for name, w in start.items()}, settings)
