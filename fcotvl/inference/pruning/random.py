"""Random pruning: the control of FastV, at the same layer and ratio."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from transformers import InternVLForConditionalGeneration

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
            digest = hashlib.sha256(f"{self.seed}\0{name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
            length = int(mask[row].sum())
            scores[row, mask.shape[1] - length :] = torch.rand(length, generator=generator)
        return scores.to(mask.device)


def build(teacher: InternVLForConditionalGeneration, *, ratio: float, layer: int) -> System:
    """Prune the teacher at random."""
    return System(teacher, RandomPruning(ratio, layer))
