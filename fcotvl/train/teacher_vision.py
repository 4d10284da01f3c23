"""Phase 1: the ViT alone learns which characters lie in each patch."""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration

from fcotvl.train.teacher_data import CLASSES, SLOTS, PageStream, batches, to_characters, to_pixels
from fcotvl.train.teacher_optim import Optimizers, warm_decay
from fcotvl.train.teacher_state import Progress

log = logging.getLogger(__name__)
EMPTY_WEIGHT = 0.15


class PatchReader(nn.Module):
    """A linear head on patch features; it is thrown away after training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, SLOTS * CLASSES)

    def forward(
        self, features: Float[Tensor, "tiles patches width"]
    ) -> Float[Tensor, "tiles patches slots classes"]:
        """Logits of each slot's character."""
        logits: Tensor = self.head(features)
        return logits.unflatten(-1, (SLOTS, CLASSES))


def patch_features(
    model: InternVLForConditionalGeneration, pixels: Float[Tensor, "tiles 3 height width"]
) -> Float[Tensor, "tiles patches features"]:
    """Last hidden states of the ViT without the class token."""
    hidden: Tensor = model.model.vision_tower(pixel_values=pixels).last_hidden_state
    return hidden[:, 1:]


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
    model: InternVLForConditionalGeneration,
    reader: PatchReader,
    progress: Progress,
    *,
    steps: int,
    batch: int,
    peak: float,
    seed: int,
) -> float:
    """Train the ViT and ``reader`` and return the smoothed accuracy at the end."""
    optimizers = Optimizers([model.model.vision_tower, reader])
    first = progress.resume(optimizers)
    stream = PageStream(first * batch, seed, practice_share=0.6)
    accuracy = 0.0
    model.train()
    for step, pages in zip(range(first, steps), batches(stream, batch), strict=False):
        pixels = to_pixels(pages)
        target = to_characters(pages)
        logits = reader(patch_features(model, pixels))
        loss = reading_loss(logits, target)
        loss.backward()
        optimizers.step(warm_decay(step, steps, peak))
        now = reading_accuracy(logits.detach(), target)
        accuracy = now if step == first else 0.98 * accuracy + 0.02 * now
        if step % 25 == 0:
            log.info("vision %d/%d loss %.3f acc %.4f", step, steps, loss.item(), accuracy)
        progress.keep(step + 1, optimizers)
    progress.finish(steps, optimizers)
    model.eval()
    return accuracy
