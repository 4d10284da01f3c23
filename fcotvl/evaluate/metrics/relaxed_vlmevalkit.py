"""Relaxed accuracy as VLMEvalKit's ``vqa_eval.py`` computes it."""

from collections.abc import Sequence

from fcotvl.core.literals import read_list
from fcotvl.evaluate.metrics import best
from fcotvl.evaluate.metrics._relaxed import relaxed_match


def score(prediction: str, references: Sequence[str]) -> float:
    """1 where the stripped answer lies within 5 % of the reference, else 0.

    A lone reference that reads as a Python list stands for its members: ``[2014, 2016]`` accepts either. Of several
    references each is a member already, and is compared as it stands.
    """
    answer = prediction.strip()
    members = _members(references[0]) if len(references) == 1 else references
    return best(lambda reference: relaxed_match(answer, target=reference), members)


def _members(reference: str) -> Sequence[str]:
    try:
        return [str(member) for member in read_list(reference) or ()] or [reference]
    except ValueError:  # a number that was written in hexadecimal has too many decimal digits
        return [reference]
