"""Phase 1: the ViT learns to read, and the projector to say what the oracle says.

Reading is asked of a middle layer: which characters lie in each patch. The layers above it put
characters together to words and give every part of a value the key that it belongs to, for the LLM
sees the picture once, in raster order, and cannot look ahead.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration

from fcotvl.toy.teacher.data import (
    CLASSES,
    GATHERED,
    SLOTS,
    Page,
    PageStream,
    batches,
    to_characters,
    to_pixels,
)
from fcotvl.toy.teacher.optim import Optimizers
from fcotvl.toy.teacher.oracle import Oracle
from fcotvl.toy.teacher.pack import Contents, Packer
from fcotvl.toy.teacher.pointing import Watched
from fcotvl.toy.teacher.state import Progress, Tally

log = logging.getLogger(__name__)
EMPTY_WEIGHT = 0.15
READ_LAYER = 4
"""Layers of the ViT after which characters are read."""
SHARPNESS = 20.0
"""The oracle's vectors are short: their products, as logits, would say nothing."""
GATHER, BIND = 4, 5
"""Layers (from 0) whose heads are told where to look: each patch of a word at the word's first
patches, one a head, then each patch of a value at its key."""
BIND_HEADS = 2
NAME_WEIGHTS = (0.5, 0.5, 0.1)
"""Of words, of keys of values, and of the characters of numbers, which are also read in place."""
LOOK_WEIGHT = 0.5
CLOSENESS = 3.0
"""Weight of the distance from the oracle in phase 1."""
PRACTICE = 0.25
"""Share of practice pages in phase 1."""


class PatchReader(nn.Module):
    """Linear heads that tell what is seen; they are thrown away after training."""

    def __init__(self, oracle: Oracle, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, SLOTS * CLASSES)
        self.content_head = nn.Linear(oracle.table.size(1), oracle.table.size(0))
        with torch.no_grad():
            self.content_head.weight.copy_(SHARPNESS * oracle.table)
            self.content_head.bias.zero_()

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
    looking: float
    """Cross entropy of the heads that are told where to look."""


def project(
    model: InternVLForConditionalGeneration, features: Float[Tensor, "tiles patches width"]
) -> Float[Tensor, "tiles tokens hidden"]:
    """Visual tokens of patch features: pixel shuffle, then projector."""
    side = int(features.size(1) ** 0.5)
    grid = features.unflatten(1, (side, side))
    blocks = model.model.pixel_shuffle(grid, scale_factor=model.config.downsample_ratio)
    visual: Tensor = model.model.multi_modal_projector(blocks.flatten(1, 2))
    return visual


def see(parts: Parts, packer: Packer, pages: list[Page], *, closeness: float) -> Seen:
    """Look at pages and compare what is seen with what is drawn.

    Args:
        parts: the model and its helpers.
        packer: it knows the contents of visual tokens.
        pages: what to look at.
        closeness: weight of the squared distance from the oracle.
    """
    vision = parts.model.model.vision_tower
    with Watched([vision.encoder.layer[at].attention for at in (GATHER, BIND)]) as (gather, bind):
        tower = vision(pixel_values=to_pixels(pages), output_hidden_states=True)
    characters = to_characters(pages)
    logits = parts.reader(tower.hidden_states[READ_LAYER][:, 1:])
    visual = project(parts.model, tower.last_hidden_state[:, 1:])
    shown = packer.contents([page.words for page in pages])
    wanted = parts.oracle(characters, shown)
    off = (visual - wanted).square().mean() / wanted.var(dim=(0, 1)).mean()
    naming, right = contents_loss(parts.reader.content_head, visual, shown, packer.sections)
    row, own, *firsts = _patches((page.gathered for page in pages), 1 + GATHERED).unbind(1)
    looking = gather.cost(row, own, torch.stack(firsts, dim=1))
    bound = (tuple(pair for spot in page.spots for pair in spot.bound) for page in pages)
    row, own, key = _patches(bound, 2).unbind(1)
    if len(row):
        looking = looking + bind.cost(row, own, key[:, None].expand(-1, BIND_HEADS))
    loss = reading_loss(logits, characters) + closeness * off + naming + LOOK_WEIGHT * looking
    accuracy = reading_accuracy(logits.detach(), characters)
    return Seen(visual, loss, accuracy, off.item(), right, looking.item())


def _patches(pages: Iterable[Sequence[tuple[int, ...]]], columns: int) -> Int[Tensor, "n c"]:
    """Page, then positions in the ViT's sequence, which begins with its class token."""
    rows = [(at, *(1 + p for p in line)) for at, page in enumerate(pages) for line in page]
    return torch.tensor(rows, dtype=torch.long).reshape(-1, 1 + columns)


def contents_loss(
    head: nn.Linear,
    visual: Float[Tensor, "tiles tokens hidden"],
    shown: Contents,
    sections: tuple[int, ...],
) -> tuple[Float[Tensor, ""], float]:
    """Weighted cross entropy of each section's contents within the section, and the share found.

    A token that shows two words cannot be right about both: the share stays below 1.
    """
    page, place, row = shown
    loss, right = visual.new_zeros(()), 0
    for weight, (low, high) in zip(NAME_WEIGHTS, pairwise(sections), strict=False):
        chosen = (row >= low) & (row < high)
        if chosen.any():
            seen = visual[page[chosen], place[chosen]]
            logits = F.linear(seen, head.weight[low:high], head.bias[low:high])
            target = row[chosen] - low
            loss = loss + weight * F.cross_entropy(logits, target)
            right += int((logits.argmax(-1) == target).sum())
    return loss, right / max(1, len(row))


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
) -> Tally:
    """Train ViT and projector and return how much is ``read`` and ``named`` rightly."""
    model = parts.model.model
    optimizers = Optimizers([model.vision_tower, model.multi_modal_projector, parts.reader])
    drawn = PageStream(progress.done * batch, seed, practice_share=PRACTICE)
    pages_of = batches(drawn, batch)
    tally = Tally({})
    parts.model.train()
    for step in progress.steps(optimizers, steps, peak):
        seen = see(parts, packer, next(pages_of), closeness=CLOSENESS)
        seen.loss.backward()
        tally.add({"read": (seen.accuracy, 1), "named": (seen.named, 1)})
        if step % 25 == 0:
            log.info(
                "vision %d/%d loss %.3f off %.3f look %.3f %s",
                step, steps, seen.loss.item(), seen.off, seen.looking, tally,
            )  # fmt: skip
    parts.model.eval()
    return tally
