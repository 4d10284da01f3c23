"""Metrics by name: ``score(prediction, references)`` in [0, 1], one file each in this folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from fcotvl.core.errors import ParamsError

Metric = Callable[[str, Sequence[str]], float]

_METRICS: dict[str, Metric] = {}


def register(name: str) -> Callable[[Metric], Metric]:
    """Make a metric available under ``name``.

    Raises:
        ValueError: that name is taken.
    """

    def add(metric: Metric) -> Metric:
        if name in _METRICS:
            raise ValueError(f"two metrics are called {name!r}")
        _METRICS[name] = metric
        return metric

    return add


def available() -> tuple[str, ...]:
    """Names of all metrics in this folder, sorted."""
    _import_folder()
    return tuple(sorted(_METRICS))


@cache
def _import_folder() -> None:
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")


def get(name: str) -> Metric:
    """The metric called ``name``.

    Raises:
        ParamsError: there is none.
    """
    if name not in available():
        raise ParamsError(f"no metric {name!r}; there are {', '.join(available())}")
    return _METRICS[name]


def best(rule: Callable[[str], float], references: Sequence[str]) -> float:
    """The score against the reference that suits the prediction best.

    Raises:
        ValueError: there is no reference, so there is no score.
    """
    if not references:
        raise ValueError("a question without references has no score; leave hidden test sets out")
    return float(max(map(rule, references)))
