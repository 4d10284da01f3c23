"""Weights from Shapley values: a checkpoint weighs what it contributes (FCoT-VL, section 3.2).

The paper does not print its formula, so there are three, and the plainest is the default.
"""

from __future__ import annotations

import logging
from math import exp

from fcotvl.core.errors import DataError, ParamsError
from fcotvl.merge.methods import Options, Utility, checkpoints, register
from fcotvl.merge.shapley import shapley_values

log = logging.getLogger(__name__)


@register("shapley")
def shapley(utility: Utility, options: Options) -> dict[str, float]:
    """Weights by ``options.weights``.

    * ``clip``: negative values become 0, then all are divided by their sum. Where no value is
      positive, no checkpoint improves on the student before, the values give no reason to prefer
      one, and the weights are uniform, with a warning.
    * ``softmax``: proportional to exp(value / tau); every checkpoint takes part.
    * ``sum``: divided by their sum as they are, so that a harmful checkpoint is subtracted.

    Raises:
        DataError: a coalition has no score, or ``sum`` has nothing positive to divide by.
        ParamsError: ``options.weights`` is none of these.
    """
    checkpoints(utility)
    values = shapley_values(utility)
    formulas = {"clip": _clip, "softmax": _softmax, "sum": _sum}
    if options.weights not in formulas:
        known = ", ".join(formulas)
        raise ParamsError(f"merge.weights is {options.weights!r}, expected one of {known}")
    return formulas[options.weights](values, options)


def _clip(values: dict[str, float], options: Options) -> dict[str, float]:  # noqa: ARG001
    kept = {name: max(value, 0.0) for name, value in values.items()}
    if not any(kept.values()):
        log.warning("no checkpoint has a positive Shapley value; they are averaged uniformly")
        kept = dict.fromkeys(values, 1.0)
    return _normalised(kept)


def _softmax(values: dict[str, float], options: Options) -> dict[str, float]:
    if options.tau <= 0:
        raise ParamsError(f"merge.tau is {options.tau}, expected a number above 0")
    highest = max(values.values())
    shares = {name: exp((value - highest) / options.tau) for name, value in values.items()}
    return _normalised(shares)


def _sum(values: dict[str, float], options: Options) -> dict[str, float]:  # noqa: ARG001
    if (total := sum(values.values())) <= 0:
        raise DataError(
            f"all checkpoints together gain {total:.4f} over the student before, so their Shapley "
            "values cannot be normalised by their sum; set merge.weights to clip or softmax"
        )
    return _normalised(values)


def _normalised(shares: dict[str, float]) -> dict[str, float]:
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}
