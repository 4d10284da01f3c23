"""Benchmarks by name: what they report and under which published set-up, one file each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from fcotvl.core.errors import ParamsError

VALUE_PROMPT = "{question} Answer the question using a single word or phrase."
"""The direct prompt of InternVL's own evaluation, for all three (one space, no line break)."""


@dataclass(frozen=True)
class Benchmark:
    """How one benchmark is asked and scored."""

    name: str
    title: str
    headline: str
    """The metric that tables show; comparable with InternVL's published numbers."""
    metrics: tuple[str, ...]
    """All that are computed, the headline among them."""
    max_tiles: int
    """Tile cap of InternVL's own evaluation."""
    max_new_tokens: int = 100
    direct_prompt: str = VALUE_PROMPT
    halves: tuple[str, ...] = ()
    """Sources whose means are averaged, each counting the same, where all of them are present."""
    version: int = 1
    """Goes up whenever scores would change."""


_BENCHMARKS: dict[str, Benchmark] = {}


def register(benchmark: Benchmark) -> Benchmark:
    """Make ``benchmark`` available under its name.

    Raises:
        ValueError: that name is taken, or the headline is not among the metrics.
    """
    if benchmark.name in _BENCHMARKS:
        raise ValueError(f"two benchmarks are called {benchmark.name!r}")
    if benchmark.headline not in benchmark.metrics:
        raise ValueError(f"{benchmark.name}: headline {benchmark.headline!r} is not computed")
    _BENCHMARKS[benchmark.name] = benchmark
    return benchmark


def available() -> tuple[str, ...]:
    """Names of all benchmarks in this folder, sorted."""
    _import_folder()
    return tuple(sorted(_BENCHMARKS))


@cache
def _import_folder() -> None:
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")


def get(name: str) -> Benchmark:
    """The benchmark called ``name``.

    Raises:
        ParamsError: there is none.
    """
    if name not in available():
        raise ParamsError(f"no benchmark {name!r}; there are {', '.join(available())}")
    return _BENCHMARKS[name]
