"""How much a tile shows, and the threshold above which it keeps more of its visual tokens.

Complexity is computed from a tile's own normalised pixels and does not depend on other tiles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from fcotvl.core.errors import DataError
from fcotvl.core.geometry import tile_shares


def tile_complexity(tile: Float[np.ndarray, "3 h w"]) -> float:
    """Mean absolute difference between neighbouring pixels, right and below, over all channels.

    0 for a tile of one colour; its unit is a standard deviation of the normalised pixels.
    """
    down, right = (np.abs(np.diff(tile, axis=axis)) for axis in (1, 2))
    total = down.sum(dtype=np.float64) + right.sum(dtype=np.float64)
    return float(total / (down.size + right.size))


def calibrate(complexities: Sequence[float], ratio: float, ratios: Sequence[float]) -> float:
    """Return the threshold that splits the tiles so that the mean ratio is met.

    Tiles of equal complexity stay on one side, so the ratio may be missed where many are equal.

    Args:
        complexities: those of a sample of tiles.
        ratio: mean share of visual tokens removed.
        ratios: share removed of a tile at or above the threshold, and of one below it.

    Raises:
        DataError: there are no tiles.
    """
    if not complexities:
        raise DataError("no tile to calibrate adaptive compression on; raise corpus.align")
    _, below = tile_shares(ratio, ratios)
    ordered = np.sort(np.asarray(complexities, dtype=np.float64))
    count = len(ordered)
    cuts = [k for k in range(count + 1) if k in (0, count) or ordered[k - 1] < ordered[k]]
    cut = min(cuts, key=lambda k: abs(k - float(below) * count))
    if cut == 0:
        return float(ordered[0])
    if cut == count:
        return float(np.nextafter(ordered[-1], np.inf))
    between = (ordered[cut - 1] + ordered[cut]) / 2
    return float(max(between, np.nextafter(ordered[cut - 1], np.inf)))


def mean_removed_ratio(complexities: Sequence[float], threshold: float, ratios: Sequence[float]) -> float:
    """Mean share of visual tokens removed from tiles of these ``complexities``."""
    above, below = ratios
    return float(np.mean([below if each < threshold else above for each in complexities]))
