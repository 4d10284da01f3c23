"""Area weights: how much of each of g tokens goes into each of m averages."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def area_weights(g: int, m: int) -> Float[Tensor, "m g"]:
    """Row ``j`` averages the stretch ``[j*g/m, (j+1)*g/m)`` of ``g`` unit-long tokens.

    Each row sums to 1 and each column to ``m/g``: all tokens count alike. 4 -> 3 gives
    ``(3/4, 1/4, 0, 0), (0, 1/2, 1/2, 0), (0, 0, 1/4, 3/4)``.
    """
    # Everything is counted in m-ths of a token, so the overlaps are whole numbers.
    rows = [
        [max(0, min((i + 1) * m, (j + 1) * g) - max(i * m, j * g)) / g for i in range(g)]
        for j in range(m)
    ]
    return torch.tensor(rows)
