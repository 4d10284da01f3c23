"""Visual-token compressors: each file of this folder holds one, called ``Compressor``.

Names and ratios are read without importing a compressor, so params are checked without torch.
"""

from __future__ import annotations

import ast
import inspect
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from fcotvl.core.errors import ParamsError
from fcotvl.core.geometry import compressed

if TYPE_CHECKING:
    from torch import nn


@cache
def available() -> tuple[str, ...]:
    """Names of all compressors in this folder, sorted: ``cnn_default.py`` is ``cnn-default``."""
    return tuple(sorted(module.name.replace("_", "-") for module in iter_modules(__path__)))


@cache
def ratios(name: str) -> tuple[float, ...]:
    """The ratios that compressor ``name`` offers: the literal ``RATIOS`` of its file.

    Raises:
        ParamsError: ``name`` is unknown.
    """
    found = _literals(name)
    if "RATIOS" not in found:
        raise ValueError(f"{name} states no RATIOS; add a tuple of numbers under that name")
    return tuple(found["RATIOS"])


def tile_ratios(name: str, ratio: float) -> tuple[float, ...]:
    """What a single tile may lose under ``ratio``, least first.

    That is ``(ratio,)``, but for a compressor whose file has a literal ``TILE_RATIOS``: under it
    ``ratio`` is the mean, and the processor chooses for each tile.

    Raises:
        ParamsError: ``name`` is unknown or does not offer ``ratio``.
    """
    if ratio not in ratios(name):
        offered = ", ".join(map(str, ratios(name)))
        raise ParamsError(f"compressor {name!r} has no ratio {ratio}; choose one of {offered}")
    chosen: dict[float, tuple[float, ...]] = _literals(name).get("TILE_RATIOS", {})
    return chosen.get(ratio, (ratio,))


def check(name: str, *, ratio: float, tokens: int) -> int:
    """How many tokens compressor ``name`` makes of a tile's ``tokens``, on average.

    Raises:
        ParamsError: ``name`` is unknown or does not offer ``ratio`` for so many tokens.
    """
    try:
        for each in tile_ratios(name, ratio):
            compressed(tokens, each)
        return compressed(tokens, ratio)
    except ValueError as error:
        raise ParamsError(f"compressor {name!r}: {error}") from error


def build(name: str, *, width: int, tokens: int, ratio: float, **options: Any) -> nn.Module:
    """A compressor for tiles of ``tokens`` visual tokens of ``width`` channels.

    Raises:
        ParamsError: ``name`` is unknown, or does not take this ratio or these ``options``.
    """
    check(name, ratio=ratio, tokens=tokens)
    builder = import_module(f"{__name__}.{_stem(name)}").Compressor
    try:
        inspect.signature(builder).bind(width=width, tokens=tokens, ratio=ratio, **options)
    except TypeError as error:
        raise ParamsError(f"compressor {name!r}: {error}; correct its options") from error
    made: nn.Module = builder(width=width, tokens=tokens, ratio=ratio, **options)
    return made


@cache
def _literals(name: str) -> dict[str, Any]:
    """``RATIOS`` and ``TILE_RATIOS`` of a compressor's file, as far as it has them."""
    file = Path(__path__[0], f"{_stem(name)}.py")
    found: dict[str, Any] = {}
    for statement in ast.parse(file.read_text(encoding="utf-8")).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=("RATIOS" | "TILE_RATIOS") as key)], value=value):
                found[key] = ast.literal_eval(value)
    return found


def _stem(name: str) -> str:
    if name not in available():
        raise ParamsError(f"no compressor {name!r}; there are {', '.join(available())}")
    return name.replace("-", "_")
