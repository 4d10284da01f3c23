"""Relaxed accuracy as InternVL's ``evaluate_vqa.py`` computes it: the one in published tables."""

from __future__ import annotations

from collections.abc import Sequence

from fcotvl.evaluate.metrics import best
from fcotvl.evaluate.metrics._relaxed import relaxed_match


def score(prediction: str, references: Sequence[str]) -> float:
    """1 where the reference lies within 5 % **of the model's answer**, else 0.

    The two arguments are swapped in that script, as in Qwen-VL's before it (QwenLM/Qwen-VL#152): answers up to 5.26 %
    above the reference pass, and those 4.76 % to 5 % below it fail. Only the model's answer is stripped.
    """
    answer = prediction.strip()
    return best(lambda reference: relaxed_match(reference, target=answer), references)
