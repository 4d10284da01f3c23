"""Phase 1: the ViT learns to read, and the projector to say what the oracle says.

Reading is asked of a middle layer: which characters lie in each patch. The layers above it put
characters together to words and give every part of a value the key that it belongs to, for the LLM
sees the picture once, in raster order, and cannot look ahead.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration

from fcotvl.train.teacher.data import (
    CLASSES,
    SLOTS,
    Page,
    PageStream,
    batches,
    to_characters,
    to_pixels,
)
from fcotvl.train.teacher.optim import Optimizers, warm_decay
from fcotvl.train.teacher.oracle import Oracle
from fcotvl.train.teacher.pack import Contents, Packer
from fcotvl.train.teacher.state import Progress

log = logging.getLogger(__name__)
EMPTY_WEIGHT = 0.15
READ_LAYER = 4
"""Layers of the ViT after which characters are read."""
NAME_WEIGHT = 0.5
PRACTICE = 0.4
"""Share of practice pages in phase 1."""


class PatchReader(nn.Module):
    """Linear heads that tell what is seen; they are thrown away after training."""

    def __init__(self, oracle: Oracle, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, SLOTS * CLASSES)
        self.contents = nn.Embedding.from_pretrained(oracle.table.clone(), freeze=False)

    def forward(
        self, features: Float[Tensor, "tiles patches width"]
    ) -> Float[Tensor, "tiles patches slots classes"]:
        """Logits of each slot's character."""
        logits: Tensor = self.head(features)
        return logits.unflatten(-1, (SLOTS, CLASSES))


@dataclass(frozen=True)
class Parts:
    """The model and the two helpers that are thrown away after training."""

    model: InternVLForConditionalGeneration
    reader: PatchReader
    oracle: Oracle


@dataclass(frozen=True)
class Seen:
    """What the ViT makes of some pages, and how far it is from what it should."""

    visual: Float[Tensor, "tiles tokens hidden"]
    loss: Float[Tensor, ""]
    accuracy: float
    """Share of characters read in the right patch and slot."""
    off: float
    """Squared distance from the oracle; 1 is no better than its mean."""
    named: float
    """Share of contents (words, characters of numbers, keys of values) that a linear map finds."""


def project(
    model: InternVLForConditionalGeneration, features: Float[Tensor, "tiles patches width"]
) -> Float[Tensor, "tiles tokens hidden"]:
    """Visual tokens of patch features: pixel shuffle, then projector."""
    side = int(features.size(1) ** 0.5)
    grid = features.unflatten(1, (side, side))
    blocks = model.model.pixel_shuffle(grid, scale_factor=model.config.downsample_ratio)
    visual: Tensor = model.model.multi_modal_projector(blocks.flatten(1, 2))
    return visual


def see(parts: Parts, packer: Packer, pages: list[Page]) -> Seen:
    """Look at pages and compare what is seen with what is drawn."""
    tower = parts.model.model.vision_tower(pixel_values=to_pixels(pages), output_hidden_states=True)
    characters = to_characters(pages)
    logits = parts.reader(tower.hidden_states[READ_LAYER][:, 1:])
    visual = project(parts.model, tower.last_hidden_state[:, 1:])
    shown = packer.contents([page.words for page in pages])
    wanted = parts.oracle(characters, shown)
    off = (visual - wanted).square().mean() / wanted.var(dim=(0, 1)).mean()
    naming, right = contents_loss(parts.reader.contents, visual, shown, packer.sections)
    loss = reading_loss(logits, characters) + off + NAME_WEIGHT * naming
    return Seen(visual, loss, reading_accuracy(logits.detach(), characters), off.item(), right)


def contents_loss(
    heads: nn.Embedding,
    visual: Float[Tensor, "tiles tokens hidden"],
    shown: Contents,
    sections: tuple[int, ...],
) -> tuple[Float[Tensor, ""], float]:
    """Mean cross entropy of each section's contents within the section, and the share found.

    A token that shows two words cannot be right about both: the share stays below 1.
    """
    page, place, row = shown
    losses, right = [], 0
    for low, high in pairwise(sections):
        chosen = (row >= low) & (row < high)
        if chosen.any():
            logits = visual[page[chosen], place[chosen]] @ heads.weight[low:high].T
            target = row[chosen] - low
            losses.append(F.cross_entropy(logits, target))
            right += int((logits.argmax(-1) == target).sum())
    return torch.stack(losses).mean(), right / max(1, len(row))


def reading_loss(
    logits: Float[Tensor, "tiles patches slots classes"],
    target: Int[Tensor, "tiles patches slots"],
) -> Float[Tensor, ""]:
    """Cross entropy per slot; slots that stay empty count little, for most do."""
    weight = torch.ones(CLASSES)
    weight[0] = EMPTY_WEIGHT
    return F.cross_entropy(logits.flatten(0, 2), target.flatten(), weight=weight.to(logits))


def reading_accuracy(
    logits: Float[Tensor, "tiles patches slots classes"],
    target: Int[Tensor, "tiles patches slots"],
) -> float:
    """Share of drawn characters that are read in the right patch and slot."""
    right = logits.argmax(-1) == target
    return float(right[target > 0].float().mean())


def train_vision(
    parts: Parts,
    packer: Packer,
    progress: Progress,
    *,
    steps: int,
    batch: int,
    peak: float,
    seed: int,
) -> float:
    """Train ViT and projector and return the smoothed reading accuracy at the end."""
    model = parts.model.model
    optimizers = Optimizers([model.vision_tower, model.multi_modal_projector, parts.reader])
    first = progress.resume(optimizers)
    stream = PageStream(first * batch, seed, practice_share=PRACTICE)
    accuracy = named = 0.0
    parts.model.train()
    for step, pages in zip(range(first, steps), batches(stream, batch), strict=False):
        seen = see(parts, packer, pages)
        seen.loss.backward()
        optimizers.step(warm_decay(step, steps, peak))
        share = 1.0 if step == first else 0.02
        accuracy += share * (seen.accuracy - accuracy)
        named += share * (seen.named - named)
        if step % 25 == 0:
            log.info(
                "vision %d/%d loss %.3f read %.4f off %.3f named %.3f",
                step, steps, seen.loss.item(), accuracy, seen.off, named,
            )  # fmt: skip
        progress.keep(step + 1, optimizers)
    progress.finish(steps, optimizers)
    parts.model.eval()
    return accuracy
