"""Phase 3: the projector learns the oracle's language, then all parts learn together."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from random import Random

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import InternVLForConditionalGeneration

from fcotvl.train.teacher_data import PageStream, batches, to_characters, to_pixels
from fcotvl.train.teacher_optim import Optimizers, warm_decay
from fcotvl.train.teacher_pack import Packer
from fcotvl.train.teacher_state import Progress
from fcotvl.train.teacher_text import Oracle, Tally, answer_loss, practise
from fcotvl.train.teacher_vision import (
    PatchReader,
    patch_features,
    reading_accuracy,
    reading_loss,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """The model and the two helpers that are thrown away after training."""

    model: InternVLForConditionalGeneration
    reader: PatchReader
    oracle: Oracle


def project(
    model: InternVLForConditionalGeneration, features: Float[Tensor, "tiles patches width"]
) -> Float[Tensor, "tiles tokens hidden"]:
    """Visual tokens of patch features: pixel shuffle, then projector."""
    side = int(features.size(1) ** 0.5)
    grid = features.unflatten(1, (side, side))
    blocks = model.model.pixel_shuffle(grid, scale_factor=model.config.downsample_ratio)
    visual: Tensor = model.model.multi_modal_projector(blocks.flatten(1, 2))
    return visual


def alignment_loss(
    visual: Float[Tensor, "tiles tokens hidden"], wanted: Float[Tensor, "tiles tokens hidden"]
) -> Float[Tensor, ""]:
    """Squared error in units of the wanted vectors' variance; 1 is no better than their mean."""
    return (visual - wanted).square().mean() / wanted.var(dim=(0, 1)).mean()


def align(
    parts: Parts,
    packer: Packer,
    progress: Progress,
    *,
    steps: int,
    batch: int,
    peak: float,
    seed: int,
) -> float:
    """Train ViT and projector to produce the oracle's vectors; return the smoothed error."""
    model, reader, oracle = parts.model, parts.reader, parts.oracle
    optimizers = Optimizers([model.model.vision_tower, model.model.multi_modal_projector, reader])
    first = progress.resume(optimizers)
    error = 1.0
    model.train()
    stream = PageStream(first * batch, seed + 2)
    for step, pages in zip(range(first, steps), batches(stream, batch), strict=False):
        characters = to_characters(pages)
        features = patch_features(model, to_pixels(pages))
        logits = reader(features)
        shown = packer.contents([page.words for page in pages])
        with torch.no_grad():
            wanted = oracle(characters, shown)
        off = alignment_loss(project(model, features), wanted)
        loss = off + reading_loss(logits, characters)
        loss.backward()
        optimizers.step(warm_decay(step, steps, peak))
        error = 0.95 * error + 0.05 * off.item()
        if step % 25 == 0:
            accuracy = reading_accuracy(logits.detach(), characters)
            log.info("align %d/%d error %.4f acc %.4f", step, steps, error, accuracy)
        progress.keep(step + 1, optimizers)
    progress.finish(steps, optimizers)
    model.eval()
    return error


def join(
    parts: Parts,
    packer: Packer,
    progress: Progress,
    *,
    steps: int,
    batch: int,
    peak: float,
    seed: int,
) -> Tally:
    """Train everything on pictures; reading and alignment stay as auxiliary losses."""
    model, reader, oracle = parts.model, parts.reader, parts.oracle
    optimizers = Optimizers([model.model, reader])
    first = progress.resume(optimizers)
    tally = Tally({})
    model.train()
    stream = PageStream(first * batch, seed + 3, densities=(3, 6, 12, 12, 12, 12), run=batch)
    for step, pages in zip(range(first, steps), batches(stream, batch), strict=False):
        rng = Random(f"join-{seed}-{step}")  # noqa: S311
        chats = [practise(packer, page.render, rng, most=6) for page in pages if page.render]
        characters = to_characters(pages)
        features = patch_features(model, to_pixels(pages))
        visual, logits = project(model, features), reader(features)
        shown = packer.contents([page.words for page in pages])
        loss, found = answer_loss(model, packer.pack(chats), visual, packer.visual_at, shown)
        reading = reading_loss(logits, characters)
        off = alignment_loss(visual, oracle(characters, shown))
        total = loss + 0.5 * reading + 0.5 * off
        total.backward()
        optimizers.step(warm_decay(step, steps, peak))
        tally.add(found)
        if step % 25 == 0:
            log.info(
                "join %d/%d loss %.3f read %.4f off %.3f acc %.4f %s", step, steps, loss.item(),
                reading.item(), off.item(), reading_accuracy(logits.detach(), characters), tally,
            )  # fmt: skip
        progress.keep(step + 1, optimizers)
    progress.finish(steps, optimizers)
    model.eval()
    return tally
