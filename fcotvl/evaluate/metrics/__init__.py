"""Metrics by name: each file of this folder defines ``score(prediction, references)`` in [0, 1].

The best reference counts. Without references there is no score: a ``ValueError``.
"""

from collections.abc import Callable, Sequence

from fcotvl.core.registry import Registry

Metric = Callable[[str, Sequence[str]], float]

REGISTRY = Registry(__name__, "score", noun="metric", separator="_")
available, get = REGISTRY.available, REGISTRY.get


def best(score: Callable[[str], float], references: Sequence[str]) -> float:
    """The highest ``score`` of any reference.

    Raises:
        ValueError: there is no reference, so there is no score.
    """
    if not references:
        raise ValueError("a question without references has no score; leave hidden test sets out")
    return float(max(map(score, references)))
