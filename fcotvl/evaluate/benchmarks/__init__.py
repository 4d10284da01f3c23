"""Benchmarks by name: each file of this folder defines a ``BENCHMARK``, how its scores are made.

Which questions it has and how many tiles an image gets is up to the mix, how they are worded up to the scale.
"""

from dataclasses import dataclass
from functools import cache

from fcotvl.core.registry import Registry

REGISTRY = Registry(__name__, "BENCHMARK", noun="benchmark")
available = REGISTRY.available


@dataclass(frozen=True)
class Benchmark:
    """How one benchmark is scored.

    Raises:
        ValueError: the headline is not one of the metrics.
    """

    title: str
    headline: str
    """The metric that tables show; comparable with InternVL's published numbers."""
    metrics: tuple[str, ...]
    """All that are computed, the headline among them."""
    halves: tuple[str, ...] = ()
    """Sources whose means are averaged, each counting the same, where all of them are present."""

    def __post_init__(self) -> None:
        if self.headline not in self.metrics:
            raise ValueError(f"{self.title}: headline {self.headline!r} is not computed")


@cache
def get(name: str) -> Benchmark:
    """The benchmark called ``name``.

    Raises:
        ParamsError: there is none.
    """
    benchmark: Benchmark = REGISTRY.get(name)
    return benchmark
