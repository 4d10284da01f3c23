"""Where a student's chain of thought leaves the teacher's: in what it reads, or in what it makes of it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fcotvl.core.prompts import MARKER

SLIPS = {"read": "Read otherwise", "calculated": "Calculated otherwise", "concluded": "Concluded otherwise"}
"""What goes wrong first, by its name in files."""


def slip(chain: str, teachers: str) -> str:
    """Where a wrong ``chain`` leaves the teacher's right one, as a key of ``SLIPS``.

    Both are taken to be as the toy teacher writes them: what it reads, item by item; a sentence that concludes from it,
    unless the answer itself is written in the picture; the answer. A chain of any other form was read otherwise.
    """
    (read, concluded), (same, conclusion) = _parts(chain), _parts(teachers)
    if read != same:
        return "read"
    return "calculated" if "=" in conclusion and concluded != conclusion else "concluded"


def slips(chains: Sequence[str], teachers: Sequence[str], wrong: NDArray[np.bool_]) -> NDArray[np.object_]:
    """The slip of each chain that is ``wrong`` beside the teacher's right one; empty for the others."""
    found = [slip(*pair) if lost else "" for *pair, lost in zip(chains, teachers, wrong, strict=True)]
    return np.array(found, dtype=np.object_)


def _parts(chain: str) -> tuple[list[str], str]:
    """The items that were read, in any order, and the sentence that concludes from them."""
    reasons, marker, _ = chain.rpartition(MARKER)
    read, stop, conclusion = (reasons if marker else chain).strip().rpartition(". ")
    return sorted((read if stop else conclusion).split(", ")), conclusion if stop else ""
