"""Visual-token compressors: each file of this folder defines one, named ``Compressor``.

Names and ratios are read without importing a compressor, so params are checked without torch.
"""

from __future__ import annotations

import ast
from functools import cache
from typing import TYPE_CHECKING, Any

from fcotvl.core.errors import ParamsError
from fcotvl.core.geometry import compressed
from fcotvl.core.registry import Registry

if TYPE_CHECKING:
    from torch import nn

REGISTRY = Registry(__name__, "Compressor", noun="compressor")
available = REGISTRY.available


@cache
def ratios(name: str) -> tuple[float, ...]:
    """Ratios that compressor ``name`` offers: the literal ``RATIOS`` of its file.

    Raises:
        ParamsError: ``name`` is unknown.
    """
    literals = _literals(name)
    if "RATIOS" not in literals:
        raise ValueError(f"{name} states no RATIOS; add a tuple of numbers under that name")
    return tuple(literals["RATIOS"])


def tile_ratios(name: str, ratio: float) -> tuple[float, ...]:
    """Ratios that a single tile may get when ``ratio`` is the mean, smallest first.

    ``(ratio,)``, except for a compressor whose file has a literal ``TILE_RATIOS``: there the processor chooses one of
    two ratios for each tile.

    Raises:
        ParamsError: ``name`` is unknown or does not offer ``ratio``.
    """
    if ratio not in ratios(name):
        offered = ", ".join(map(str, ratios(name)))
        raise ParamsError(f"compressor {name!r} has no ratio {ratio}; choose one of {offered}")
    by_mean: dict[float, tuple[float, ...]] = _literals(name).get("TILE_RATIOS", {})
    return by_mean.get(ratio, (ratio,))


def train_ratios(name: str) -> tuple[float, ...]:
    """Ratios that one set of weights of ``name`` serves: the literal ``TRAIN_RATIOS`` of its file, else none.

    Training draws one of them for each picture, whatever the student's own ratio is.

    Raises:
        ParamsError: ``name`` is unknown.
    """
    return tuple(_literals(name).get("TRAIN_RATIOS", ()))


def output_tokens(name: str, *, ratio: float, tokens: int) -> int:
    """Visual tokens that compressor ``name`` leaves of a tile's ``tokens``, on average.

    Raises:
        ParamsError: ``name`` is unknown or does not offer ``ratio`` for that many tokens.
    """
    try:
        for each in (*tile_ratios(name, ratio), *train_ratios(name)):
            compressed(tokens, each)
        return compressed(tokens, ratio)
    except ValueError as error:
        raise ParamsError(f"compressor {name!r}: {error}") from error


def build(name: str, *, width: int, tokens: int, ratio: float, **options: Any) -> nn.Module:
    """Build a compressor for tiles of ``tokens`` visual tokens of ``width`` channels.

    Raises:
        ParamsError: ``name`` is unknown, or does not take this ratio or these ``options``.
    """
    output_tokens(name, ratio=ratio, tokens=tokens)
    settings = {"width": width, "tokens": tokens, "ratio": ratio, **options}
    compressor: nn.Module = REGISTRY.call(name, options=settings)
    return compressor


@cache
def _literals(name: str) -> dict[str, Any]:
    """``RATIOS``, ``TILE_RATIOS`` and ``TRAIN_RATIOS`` of a compressor's file, as far as it has them."""
    source = (REGISTRY.folder / f"{REGISTRY.stem(name)}.py").read_text(encoding="utf-8")
    literals: dict[str, Any] = {}
    for statement in ast.parse(source).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=("RATIOS" | "TILE_RATIOS" | "TRAIN_RATIOS") as key)], value=value):
                literals[key] = ast.literal_eval(value)
    return literals
