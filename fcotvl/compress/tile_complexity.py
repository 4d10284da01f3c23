"""How much a tile shows, and from how much on it keeps more of its visual tokens.

Numbers of one tile's own normalised pixels: no tile depends on another, or on a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from fcotvl.core.errors import DataError
from fcotvl.core.geometry import mixture


def detail(tile: Float[np.ndarray, "3 h w"]) -> float:
    """Mean absolute difference between neighbouring pixels, right and below, over all channels.

    0 for a tile of one colour; its unit is a standard deviation of the normalised pixels.
    """
    down, right = (np.abs(np.diff(tile, axis=axis)) for axis in (1, 2))
    total = down.sum(dtype=np.float64) + right.sum(dtype=np.float64)
    return float(total / (down.size + right.size))


def calibrate(details: Sequence[float], ratio: float, ratios: Sequence[float]) -> float:
    """The threshold under which as many tiles fall as the mean budget wants.

    Tiles of equal detail stay together, so the budget may be missed where there are many.

    Args:
        details: of a sample of tiles.
        ratio: mean share of visual tokens removed.
        ratios: what a tile at or above the threshold loses, and one below it.

    Raises:
        DataError: there is no tile.
    """
    if not details:
        raise DataError("no tile to calibrate adaptive compression on; raise corpus.align")
    _, below = mixture(ratio, ratios)
    ordered = np.sort(np.asarray(details, dtype=np.float64))
    count = len(ordered)
    cuts = [k for k in range(count + 1) if k in (0, count) or ordered[k - 1] < ordered[k]]
    cut = min(cuts, key=lambda k: abs(k - float(below) * count))
    if cut == 0:
        return float(ordered[0])
    if cut == count:
        return float(np.nextafter(ordered[-1], np.inf))
    between = (ordered[cut - 1] + ordered[cut]) / 2
    return float(max(between, np.nextafter(ordered[cut - 1], np.inf)))


def removed(details: Sequence[float], threshold: float, ratios: Sequence[float]) -> float:
    """The mean share of visual tokens that tiles of these ``details`` lose."""
    above, below = ratios
    return float(np.mean([below if each < threshold else above for each in details]))
