"""FastV at the prefill cost of a student: as many visual tokens as let both cost the same.

Layers before K read everything, so FastV at a student's ratio mostly costs more than the student, whatever K. Here it
keeps as many as cost the same. Of N visual tokens a student's compressor makes n = (1 - ratio) N for its projector and
all L layers; FastV keeps the largest m for which

    projector of N + K layers of N + (L - K) layers of m  <=  compressor of N + projector of n + L layers of n

in FLOPs. The student is one of compressor ``cnn``, which is the paper's. Text is left out on both sides, and so is the
ranking, which costs less than one token in one layer. K is the largest one up to ``layer`` that leaves a token of one
tile, so it is the paper's K = 2 where the LLM is deep enough: with the 24 layers of InternVL2-2B, 54 % are removed
where a student removes 50 %. With its 4 layers the tiny model removes 70 % there, and takes K = 1 where a student
removes 75 %. Where even K = 1 leaves none, as at 0.875 with 4 layers, all are removed from layer 1 on, and the cost is
still above the student's: FastV cannot have less. Where the compressor costs more than it saves, as the tiny one's at
0.25, none are removed.
"""

from bisect import bisect_right
from dataclasses import dataclass, field

from transformers import InternVLConfig, InternVLForConditionalGeneration

from fcotvl.compress.config import full_tokens, token_width
from fcotvl.core.geometry import compressed, group
from fcotvl.inference.flops import llm_layer, projector
from fcotvl.inference.pruned_decoding import System
from fcotvl.inference.pruning.fastv import FastV


@dataclass(frozen=True, kw_only=True)
class EqualCostFastV(FastV):
    """FastV whose ``ratio`` is that of the student whose cost it has."""

    config: InternVLConfig = field(compare=False, repr=False)
    connector: int
    """FLOPs of a tile in the student's compressor and projector, beyond those in the teacher's projector."""

    def kept(self, tokens: int) -> int:
        """The largest number of visual tokens that costs no more than the student's."""
        layers, read = self.config.text_config.num_hidden_layers, super().kept(tokens)
        budget = layers * llm_layer(self.config, read, read) + self.connector * tokens // full_tokens(self.config)
        budget -= self.layer * llm_layer(self.config, tokens, tokens)
        short = layers - self.layer
        fitting = bisect_right(range(tokens + 1), budget, key=lambda m: short * llm_layer(self.config, m, m))
        return max(0, fitting - 1)


def build(teacher: InternVLForConditionalGeneration, *, ratio: float, layer: int) -> System:
    """Prune the teacher by attention to a student's cost."""
    config, full = teacher.config, full_tokens(teacher.config)
    _, made = group(ratio)  # tokens of each window of the convolution, which reads every token once for each
    convolution = 2 * full * made * token_width(config) ** 2 if ratio else 0
    beyond = convolution + projector(config, compressed(full, ratio)) - projector(config, full)
    choices = [EqualCostFastV(ratio, k, config=config, connector=beyond) for k in range(layer, 0, -1)]
    return System(teacher, next((each for each in choices if each.kept(full)), choices[-1]))
