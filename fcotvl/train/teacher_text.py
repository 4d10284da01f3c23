"""Phase 2: the LLM alone learns to find and to reason, on pictures that are perfectly read.

In place of the ViT stands a table: each visual token is the sum of fixed vectors of what it shows:
the characters in its patches, the words that they belong to (numbers spelled out), and for parts of
a value the key that it belongs to. So the LLM meets the true two-dimensional layout of 64 tokens
from the start, at the price of text. Phase 3 then teaches the ViT and the projector to produce
these very vectors.
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

from fcotvl.data.render import Rendered
from fcotvl.train.teacher_data import CLASSES, GRID, SLOTS, PageStream, batches, to_characters
from fcotvl.train.teacher_optim import Optimizers, warm_decay
from fcotvl.train.teacher_pack import SPELLED, Chat, Contents, Packed, Packer
from fcotvl.train.teacher_state import Progress

log = logging.getLogger(__name__)
WORD_LAYER = 2
DROPOUT = 0.1
"""Share of what is shown that the oracle leaves out, for the ViT will miss some of it."""
WORD_WEIGHT = 0.3
KINDS = ("transcribe", "extractive", "reason", "extractive+cot", "reason+cot", "recite")


class Oracle(nn.Module):
    """What a visual token should say: the sum of fixed vectors of what it covers.

    The vectors are drawn once and not trained (words as the LLM's first embeddings, keys as
    the same vectors turned, so that one linear map finds the key that a question names). So
    the ViT can learn to produce them while the LLM learns to read them.
    """

    def __init__(self, words: Float[Tensor, "vocabulary width"]) -> None:
        super().__init__()
        width = words.size(1)
        self.embed = nn.Embedding(4 * SLOTS * CLASSES, width)
        self.place = nn.Parameter(torch.randn((GRID // 2) ** 2, width) * 0.05)
        words = words.detach()
        keys = words @ nn.init.orthogonal_(torch.empty(width, width))
        spelled = torch.randn(SPELLED * CLASSES, width) * words.std()
        self.table = nn.Parameter(torch.cat([words, keys, spelled]))
        nn.init.normal_(self.embed.weight, std=0.05)
        self.requires_grad_(requires_grad=False)

    def forward(
        self, characters: Int[Tensor, "tiles patches slots"], shown: Contents
    ) -> Float[Tensor, "tiles tokens width"]:
        """One vector per block of 2 x 2 patches: characters, words, keys of values."""
        blocks = rearrange(
            characters, "t (h fh w fw) s -> t (h w) (fh fw s)", h=GRID // 2, fh=2, fw=2
        )
        offset = CLASSES * torch.arange(4 * SLOTS, device=characters.device)
        filled = (blocks > 0).unsqueeze(-1)
        letters: Tensor = (self.embed(blocks + offset) * filled).sum(2) + self.place
        page, place, row = shown
        flat = letters.flatten(0, 1).index_add(0, page * letters.size(1) + place, self.table[row])
        return flat.view_as(letters)


def answer_loss(
    model: InternVLForConditionalGeneration,
    packed: Packed,
    visual: Float[Tensor, "tiles tokens width"],
    start: int,
    shown: Contents,
) -> tuple[Float[Tensor, ""], dict[str, tuple[int, int]]]:
    """Weighted cross entropy of the replies, and right/all first answer tokens per kind.

    An auxiliary loss asks the second layer which words a visual token shows: once a question's
    word and the picture's word look alike inside the LLM, looking up is a matter of attention.
    """
    llm = model.model.language_model
    embeds = llm.embed_tokens(packed.input_ids)
    stop = start + visual.size(1)
    embeds = torch.cat([embeds[:, :start], visual, embeds[:, stop:]], dim=1)
    states = llm(
        inputs_embeds=embeds,
        attention_mask=packed.mask,
        position_ids=packed.position_ids,
        use_cache=False,
        output_hidden_states=True,
    )
    page, place, token = (column[shown[2] < llm.embed_tokens.num_embeddings] for column in shown)
    spelled = model.lm_head(llm.norm(states.hidden_states[WORD_LAYER][page, start + place]))
    hidden = states.last_hidden_state
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
    return loss + WORD_WEIGHT * F.cross_entropy(spelled, token), found


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
    (0.3, (3, 4, 6)),
    (1.0, (4, 6, 12, 12)),
)
"""Up to which share of the steps a picture holds at most how many facts."""


def practise(packer: Packer, drawn: Rendered, rng: Random, *, most: int) -> list[Chat]:
    """Turns about one picture: all facts recited, and some of its questions."""
    chats = packer.draw(drawn.turns, rng, transcribe=0.25, most=most)
    return [packer.recite(drawn.table, rng), *chats]


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
) -> Tally:
    """Train the LLM and return how often answers start right."""
    llm = model.model.language_model
    optimizers = Optimizers([llm])
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
            chats = [practise(packer, page.render, rng, most=4) for page in pages if page.render]
            shown = packer.contents([page.words for page in pages])
            kept = torch.rand(len(shown[0])) >= DROPOUT
            seen = (shown[0][kept], shown[1][kept], shown[2][kept])
            visual = oracle(to_characters(pages), seen)
            loss, found = answer_loss(model, packer.pack(chats), visual, packer.visual_at, shown)
            loss.backward()
            optimizers.step(warm_decay(step, steps, peak))
            tally.add(found)
            if step % 50 == 0:
                log.info("text %d/%d loss %.3f %s", step, steps, loss.item(), tally)
            progress.keep(step + 1, optimizers)
        low = high
    progress.finish(steps, optimizers)
    model.eval()
    return tally
