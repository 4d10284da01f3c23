"""Area weights: how much of each of g tokens goes into each of m averages."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def area_weights(g: int, m: int) -> Float[Tensor, "m g"]:
    """Return weights whose row ``j`` averages ``[j*g/m, (j+1)*g/m)`` of ``g`` unit-long tokens.

    Each row sums to 1 and each column to ``m/g``, so all tokens have equal weight. For 4 -> 3: ``(3/4, 1/4, 0, 0), (0,
    1/2, 1/2, 0), (0, 0, 1/4, 3/4)``.
    """
    # Measured in m-ths of a token, overlaps are whole numbers.
    rows = [[max(0, min((i + 1) * m, (j + 1) * g) - max(i * m, j * g)) / g for i in range(g)] for j in range(m)]
    return torch.tensor(rows)
