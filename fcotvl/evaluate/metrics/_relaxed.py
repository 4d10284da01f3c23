"""What all dialects of relaxed accuracy share (ChartQA, arXiv 2203.10244; code from pix2struct).

None of the published dialects removes thousands commas, currency signs or final periods, or treats years apart:
``2008`` passes for ``2010``.
"""

from __future__ import annotations

TOLERANCE = 0.05


def number(text: str) -> float | None:
    """``text`` as a float, a percentage as its fraction; None where Python's ``float`` refuses."""
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def relaxed_match(answer: str, target: str) -> bool:
    """Whether two numbers differ by at most 5 % **of the target**, or two texts not at all.

    A target of zero, or anything that is not a number, is compared as text, ignoring letter case.
    """
    value, goal = number(answer), number(target)
    if value is not None and goal:
        return abs(value - goal) / abs(goal) <= TOLERANCE
    return answer.lower() == target.lower()
