"""OCRBench's metric: a reference occurs in the answer.

As in https://github.com/Yuliang-Liu/MultimodalOCR/blob/f5cbec66817b643f732f11cdc7b3a550963b70dc/OCRBench/example.py,
whose rule for formulas (its data set HME100k) is that of references between dollar signs here.
"""

from collections.abc import Sequence

from fcotvl.evaluate.metrics import best


def score(prediction: str, references: Sequence[str]) -> float:
    """1 where a reference is part of the answer, else 0.

    Letter case is ignored, and a line break is a space. Of a formula, which stands between dollar signs, letter case
    counts and spaces do not.
    """
    return best(lambda reference: float(_occurs(reference.strip(), prediction.strip())), references)


def _occurs(reference: str, answer: str) -> bool:
    answer = answer.replace("\n", " ")
    if len(reference) > 1 and reference[0] == reference[-1] == "$":
        return reference[1:-1].replace("\n", "").replace(" ", "") in answer.replace(" ", "")
    return reference.lower().replace("\n", " ") in answer.lower()
