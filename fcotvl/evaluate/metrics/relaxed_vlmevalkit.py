"""Relaxed accuracy as VLMEvalKit's ``vqa_eval.py`` computes it."""

import ast
from collections.abc import Iterator, Sequence

from fcotvl.evaluate.metrics import best
from fcotvl.evaluate.metrics._relaxed import relaxed_match


def score(prediction: str, references: Sequence[str]) -> float:
    """1 where the stripped answer lies within 5 % of the reference, else 0.

    A reference that reads as a Python list stands for its members: ``[2014, 2016]`` accepts either.
    """
    answer = prediction.strip()
    members = [member for reference in references for member in _members(reference)]
    return best(lambda reference: relaxed_match(answer, target=reference), members)


def _members(reference: str) -> Iterator[str]:
    try:
        literal = ast.literal_eval(reference)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # all that a string can raise
        literal = None
    if isinstance(literal, list) and literal:
        yield from map(str, literal)
    else:
        yield reference
