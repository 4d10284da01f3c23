"""How many visual tokens a tile becomes: prompt, connector and reports agree on it here."""

from __future__ import annotations

from fractions import Fraction

RATIOS: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 0.875)
"""Supported shares of visual tokens **removed**."""


def group(ratio: float) -> tuple[int, int]:
    """Return ``(g, m)``: each group of ``g`` visual tokens becomes ``m``.

    0 -> (1, 1), 0.25 -> (4, 3), 0.5 -> (2, 1), 0.75 -> (4, 1), 0.875 -> (8, 1).

    Raises:
        ValueError: ``ratio`` is not one of ``RATIOS``.
    """
    if ratio not in RATIOS:
        raise ValueError(f"ratio {ratio} is not one of {', '.join(map(str, RATIOS))}")
    kept = 1 - Fraction(ratio)
    return kept.denominator, kept.numerator


def tokens_per_tile(image_size: int, patch_size: int, factor: int) -> int:
    """Visual tokens of one tile after pixel shuffle: (448, 14, 2) -> 256.

    Args:
        image_size: side of a tile in pixels.
        patch_size: side of a ViT patch in pixels.
        factor: pixel-shuffle factor (blocks of ``factor x factor`` patches become one token).

    Raises:
        ValueError: the sizes do not divide.
    """
    side, rest = divmod(image_size, patch_size * factor)
    if rest:
        raise ValueError(
            f"{image_size} px tiles do not divide into {patch_size * factor} px tokens"
        )
    return side * side


def compressed(tokens: int, ratio: float) -> int:
    """Visual tokens left of ``tokens`` after removing the share ``ratio``.

    Raises:
        ValueError: ``tokens`` does not divide into the groups of that ratio.
    """
    g, m = group(ratio)
    if tokens % g:
        raise ValueError(f"{tokens} visual tokens do not divide into groups of {g} (ratio {ratio})")
    return tokens // g * m
