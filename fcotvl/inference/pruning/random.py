"""Random pruning: the control of FastV, at the same layer and ratio."""

from dataclasses import dataclass

import torch
from transformers import InternVLForConditionalGeneration

from fcotvl.inference.decoding import seeded
from fcotvl.inference.pruned_decoding import Prefill, Pruning, Scores, System


@dataclass(frozen=True)
class RandomPruning(Pruning):
    """Ranks visual tokens at random."""

    seed: int = 0

    def score(self, prefill: Prefill) -> Scores:
        """Random numbers that depend on the seed and a row's name, not on batch or padding."""
        mask = prefill.attention_mask
        scores = torch.zeros(mask.shape)
        for row, name in enumerate(prefill.names):
            length = int(mask[row].sum())
            numbers = torch.rand(length, generator=seeded(self.seed, name))
            scores[row, mask.shape[1] - length :] = numbers
        return scores.to(mask.device)


def build(teacher: InternVLForConditionalGeneration, *, ratio: float, layer: int) -> System:
    """Prune the teacher at random."""
    return System(teacher, RandomPruning(ratio, layer))
