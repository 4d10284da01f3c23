"""Metrics by name: each file of this folder defines ``score(prediction, references)`` in [0, 1].

The best reference counts, or how many agree (``vqa_accuracy``). Without references there is no score: a ``ValueError``.
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
    require(references)
    return float(max(map(score, references)))


def require(references: Sequence[str]) -> None:
    """Refuse to score without references.

    Raises:
        ValueError: there is none.
    """
    if not references:
        raise ValueError("a question without references has no score; leave hidden test sets out")
