"""Untrained pooling: the compressor ``pool`` before the teacher's own projector and LLM."""

from transformers import InternVLForConditionalGeneration

from fcotvl.compress.checkpoints import make_student
from fcotvl.inference.pruned_decoding import System


def build(
    teacher: InternVLForConditionalGeneration,
    *,
    ratio: float,
    layer: int,  # noqa: ARG001 - pooling comes before the LLM
) -> System:
    """Pool the teacher's visual tokens."""
    return System(make_student(teacher, compressor="pool", ratio=ratio, share_frozen=True))
