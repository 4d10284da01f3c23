"""Losses of the ViT and the projector: reading, attention, and distance from target embeddings.

A middle layer reads which characters lie in each patch. The layers above it combine characters into words and give
every part of a value its key, because the LLM sees the picture once, in raster order, and cannot look ahead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration

from fcotvl.toy.teacher.attention_supervision import probe_attention
from fcotvl.toy.teacher.chats import ChatBuilder, Contents
from fcotvl.toy.teacher.phase import StepResult
from fcotvl.toy.teacher.samples import CLASSES, SLOTS, WORD_PATCHES, Sample, to_characters, to_pixels
from fcotvl.toy.teacher.target_embeddings import TargetEmbeddings

EMPTY_WEIGHT = 0.15
"""Weight of empty slots, because most are."""
READ_LAYER = 4
"""Layers of the ViT after which characters are read."""
LOGIT_SCALE = 20.0
"""Target embeddings are short: as logits, their products would be too small."""
WORD_LAYER, KEY_LAYER = 4, 5
"""Layers (from 0) with supervised heads: each patch of a word attends to the word's first patches, one per head, then
each patch of a value to its key."""
KEY_HEADS = 2
CONTENT_WEIGHTS = (0.5, 0.5, 0.1)
"""Of words, of keys of values, and of the characters of numbers, which are also read in place."""
ATTENTION_WEIGHT = 0.5


class PatchReader(nn.Module):
    """Linear heads that classify characters and contents; discarded after training."""

    def __init__(self, targets: TargetEmbeddings, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, SLOTS * CLASSES)
        self.content_head = nn.Linear(targets.table.size(1), targets.table.size(0))
        with torch.no_grad():
            self.content_head.weight.copy_(LOGIT_SCALE * targets.table)
            self.content_head.bias.zero_()

    def forward(self, features: Float[Tensor, "tiles patches width"]) -> Float[Tensor, "tiles patches slots classes"]:
        """Logits of each slot's character."""
        logits: Tensor = self.head(features)
        return logits.unflatten(-1, (SLOTS, CLASSES))


@dataclass(frozen=True)
class TeacherParts:
    """The model and the helpers that are discarded after training."""

    model: InternVLForConditionalGeneration
    reader: PatchReader
    target_embeddings: TargetEmbeddings
    builder: ChatBuilder


def project(
    model: InternVLForConditionalGeneration, features: Float[Tensor, "tiles patches width"]
) -> Float[Tensor, "tiles tokens hidden"]:
    """Visual tokens of patch features: pixel shuffle, then projector."""
    side = int(features.size(1) ** 0.5)
    grid = features.unflatten(1, (side, side))
    blocks = model.model.pixel_shuffle(grid, scale_factor=model.config.downsample_ratio)
    visual: Tensor = model.model.multi_modal_projector(blocks.flatten(1, 2))
    return visual


def run_vision(
    parts: TeacherParts, samples: list[Sample], *, distance_weight: float
) -> tuple[Float[Tensor, "tiles tokens hidden"], StepResult]:
    """Visual tokens of ``samples`` and the losses of the ViT and projector.

    ``distance`` is the squared distance from the target embeddings; 1 is no better than their mean. ``named`` counts
    the contents of visual tokens that a linear map finds, ``read`` the characters that are read in the right patch and
    slot.
    """
    vision = parts.model.model.vision_tower
    layers = [vision.encoder.layer[index].attention for index in (WORD_LAYER, KEY_LAYER)]
    with probe_attention(layers) as (word_probe, key_probe):
        tower = vision(pixel_values=to_pixels(samples), output_hidden_states=True)
    characters = to_characters(samples)
    logits = parts.reader(tower.hidden_states[READ_LAYER][:, 1:])
    visual = project(parts.model, tower.last_hidden_state[:, 1:])
    contents = parts.builder.content_rows(samples)
    target = parts.target_embeddings(characters, contents)
    distance = (visual - target).square().mean() / target.var(dim=(0, 1)).mean()
    naming, named = content_loss(parts.reader.content_head, visual, contents, parts.builder.sections)
    word_rows = _sequence_positions((s.word_patches for s in samples), 1 + WORD_PATCHES)
    row, own, *first = word_rows.unbind(1)
    attention = word_probe.loss(row, own, torch.stack(first, dim=1))
    links = (tuple(pair for fact in s.facts for pair in fact.patch_links) for s in samples)
    row, own, key = _sequence_positions(links, 2).unbind(1)
    if len(row):
        attention = attention + key_probe.loss(row, own, key[:, None].expand(-1, KEY_HEADS))
    reading = reading_loss(logits, characters)
    loss = reading + distance_weight * distance + naming + ATTENTION_WEIGHT * attention
    correct = {"read": (reading_accuracy(logits.detach(), characters), 1), "named": (named, 1)}
    losses = {"distance": distance.item(), "patch attention": attention.item()}
    return visual, StepResult(loss, correct, losses)


def _sequence_positions(samples: Iterable[Sequence[tuple[int, ...]]], columns: int) -> Int[Tensor, "n c"]:
    """Sample, then positions in the ViT's sequence, which begins with its class token."""
    rows = [(index, *(1 + patch for patch in patches)) for index, sample in enumerate(samples) for patches in sample]
    return torch.tensor(rows, dtype=torch.long).reshape(-1, 1 + columns)


def content_loss(
    head: nn.Linear, visual: Float[Tensor, "tiles tokens hidden"], contents: Contents, sections: tuple[int, ...]
) -> tuple[Float[Tensor, ""], float]:
    """Weighted cross entropy of the contents of each section of the table, and accuracy.

    A token that shows two words cannot be right about both: the accuracy stays below 1.
    """
    tile, token, row = contents
    loss, right = visual.new_zeros(()), 0
    for weight, (low, high) in zip(CONTENT_WEIGHTS, pairwise(sections), strict=False):
        chosen = (row >= low) & (row < high)
        if chosen.any():
            features = visual[tile[chosen], token[chosen]]
            logits = F.linear(features, head.weight[low:high], head.bias[low:high])
            target = row[chosen] - low
            loss = loss + weight * F.cross_entropy(logits, target)
            right += int((logits.argmax(-1) == target).sum())
    return loss, right / max(1, len(row))


def reading_loss(
    logits: Float[Tensor, "tiles patches slots classes"], target: Int[Tensor, "tiles patches slots"]
) -> Float[Tensor, ""]:
    """Cross entropy per slot."""
    weight = torch.ones(CLASSES)
    weight[0] = EMPTY_WEIGHT
    return F.cross_entropy(logits.flatten(0, 2), target.flatten(), weight=weight.to(logits))


def reading_accuracy(
    logits: Float[Tensor, "tiles patches slots classes"], target: Int[Tensor, "tiles patches slots"]
) -> float:
    """Share of drawn characters that are read in the right patch and slot."""
    right = logits.argmax(-1) == target
    return float(right[target > 0].float().mean())
