"""Phase 2: the LLM alone learns to find and to reason, on pictures that are perfectly read.

In place of the ViT stands a table: each visual token is the sum of learned vectors of the
characters that its patches hold, one vector per (patch in the block, slot, character). So the LLM
meets the true two-dimensional layout of 64 tokens from the start, at the price of text. Phase 3
then teaches the ViT and the projector to produce these very vectors.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from random import Random

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration

from fcotvl.train.teacher_data import CLASSES, GRID, SLOTS, PageStream, batches
from fcotvl.train.teacher_optim import Optimizers, warm_decay
from fcotvl.train.teacher_pack import Packed, Packer
from fcotvl.train.teacher_state import Progress

log = logging.getLogger(__name__)
KINDS = ("transcribe", "extractive", "reason", "extractive+cot", "reason+cot")


class Oracle(nn.Module):
    """What a visual token should say, looked up from the characters it covers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(4 * SLOTS * CLASSES, width)
        self.place = nn.Parameter(torch.randn((GRID // 2) ** 2, width) * 0.05)
        nn.init.normal_(self.embed.weight, std=0.05)

    def forward(
        self, characters: Int[Tensor, "tiles patches slots"]
    ) -> Float[Tensor, "tiles tokens width"]:
        """One vector per block of 2 x 2 patches."""
        blocks = rearrange(
            characters, "t (h fh w fw) s -> t (h w) (fh fw s)", h=GRID // 2, fh=2, fw=2
        )
        offset = CLASSES * torch.arange(4 * SLOTS, device=characters.device)
        filled = (blocks > 0).unsqueeze(-1)
        found: Tensor = (self.embed(blocks + offset) * filled).sum(2) + self.place
        return found


def answer_loss(
    model: InternVLForConditionalGeneration,
    packed: Packed,
    visual: Float[Tensor, "tiles tokens width"],
    start: int,
) -> tuple[Float[Tensor, ""], dict[str, tuple[int, int]]]:
    """Weighted cross entropy of the replies, and right/all first answer tokens per kind."""
    llm = model.model.language_model
    embeds = llm.embed_tokens(packed.input_ids)
    stop = start + visual.size(1)
    embeds = torch.cat([embeds[:, :start], visual, embeds[:, stop:]], dim=1)
    hidden = llm(
        inputs_embeds=embeds,
        attention_mask=packed.mask,
        position_ids=packed.position_ids,
        use_cache=False,
    ).last_hidden_state
    wanted = packed.labels >= 0
    logits = model.lm_head(hidden[wanted])
    target, weight = packed.labels[wanted], packed.weights[wanted]
    loss = (F.cross_entropy(logits, target, reduction="none") * weight).sum() / weight.sum()
    first = packed.first[wanted]
    right = logits.argmax(-1) == target
    found = {
        kind: (int(right[first == code].sum()), int((first == code).sum()))
        for code, kind in enumerate(KINDS, start=1)
    }
    return loss, found


@dataclass
class Tally:
    """Smoothed first-answer-token accuracy per kind of turn."""

    rates: dict[str, float]
    decay: float = 0.98

    def add(self, found: dict[str, tuple[int, int]]) -> None:
        """Take in one batch."""
        for kind, (right, count) in found.items():
            if count:
                old = self.rates.get(kind, right / count)
                self.rates[kind] = self.decay * old + (1 - self.decay) * right / count

    def __str__(self) -> str:
        return " ".join(f"{kind} {rate:.3f}" for kind, rate in sorted(self.rates.items()))


CURRICULUM: tuple[tuple[float, tuple[int, ...]], ...] = (
    (0.2, (1, 2, 3)),
    (0.5, (3, 4, 6)),
    (1.0, (4, 6, 12, 12)),
)
"""Up to which share of the steps a picture holds at most how many facts."""


def train_text(
    model: InternVLForConditionalGeneration,
    oracle: Oracle,
    packer: Packer,
    progress: Progress,
    *,
    steps: int,
    batch: int,
    peak: float,
    seed: int,
    noise: float = 0.0,
) -> Tally:
    """Train the LLM and ``oracle`` and return how often answers start right."""
    llm = model.model.language_model
    optimizers = Optimizers([llm, oracle])
    first = progress.resume(optimizers)
    tally = Tally({})
    model.train()
    low = first
    for share, densities in CURRICULUM:
        high = int(share * steps)
        if low >= high:
            continue
        stream = PageStream(low * batch, seed + 1, densities=densities, run=batch)
        for step, pages in zip(range(low, high), batches(stream, batch), strict=False):
            rng = Random(f"turns-{seed}-{step}")  # noqa: S311
            chats = [packer.draw(p.render.turns, rng, 0.25) for p in pages if p.render]
            visual = oracle(torch.stack([page.characters for page in pages]))
            if noise:
                visual = visual + noise * visual.detach().std() * torch.randn_like(visual)
            loss, found = answer_loss(model, packer.pack(chats), visual, packer.visual_at)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizers.step(warm_decay(step, steps, peak))
            tally.add(found)
            if step % 50 == 0:
                log.info("text %d/%d loss %.3f %s", step, steps, loss.item(), tally)
            progress.keep(step + 1, optimizers)
        low = high
    model.eval()
    return tally
