"""Weights from Shapley values: a checkpoint weighs what it contributes (FCoT-VL, section 3.2).

The paper does not print its formula, so there are three, and the plainest is the default.
"""

from __future__ import annotations

import logging
from math import exp

from fcotvl.core.config import MergeParams
from fcotvl.core.errors import DataError
from fcotvl.merge.methods import Utility, checkpoints
from fcotvl.merge.shapley import estimate_values

log = logging.getLogger(__name__)


def weights(utility: Utility, params: MergeParams) -> dict[str, float]:
    """Weights by ``params.weights``.

    * ``clip``: negative values become 0, then all are divided by their sum. If no value is positive, no checkpoint
      improves on the student before ``sft``, the values give no reason to prefer one, and the weights are uniform, with
      a warning.
    * ``softmax``: proportional to exp(value / tau); every checkpoint takes part.
    * ``sum``: divided by their sum as they are, so that a harmful checkpoint is subtracted.

    Raises:
        DataError: a coalition has no score, or ``sum`` has nothing positive to divide by.
    """
    checkpoints(utility)
    values = estimate_values(utility, pairs=params.permutations)
    match params.weights:
        case "clip":
            shares = _clip(values)
        case "softmax":
            highest = max(values.values())
            shares = {name: exp((value - highest) / params.tau) for name, value in values.items()}
        case "sum":
            shares = _sum(values)
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def _clip(values: dict[str, float]) -> dict[str, float]:
    kept = {name: max(value, 0.0) for name, value in values.items()}
    if not any(kept.values()):
        log.warning("no checkpoint has a positive Shapley value; they are averaged uniformly")
        return dict.fromkeys(values, 1.0)
    return kept


def _sum(values: dict[str, float]) -> dict[str, float]:
    if (total := sum(values.values())) <= 0:
        raise DataError(
            f"all checkpoints together gain {total:.4f} over the student before sft, so their "
            "Shapley values cannot be normalised by their sum; set merge.weights to clip or softmax"
        )
    return values
