"""Phase 2: the LLM alone learns to find and to reason, on pictures that are perfectly read.

In place of the ViT stands a table: each visual token is the sum of fixed vectors of what it shows:
the characters in its patches, the words that they belong to (numbers spelled out), and for parts of
a value the key that it belongs to. So the LLM meets the true two-dimensional layout of 64 tokens
from the start, at the price of text. Phase 1 teaches the ViT and the projector to produce these
very vectors.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from random import Random

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import InternVLForConditionalGeneration

from fcotvl.toy.teacher.data import Page, PageStream, batches, to_characters
from fcotvl.toy.teacher.drill import drills
from fcotvl.toy.teacher.optim import Optimizers
from fcotvl.toy.teacher.oracle import Oracle
from fcotvl.toy.teacher.pack import Chat, Contents, Packed, Packer
from fcotvl.toy.teacher.pointing import Glance, Watched
from fcotvl.toy.teacher.state import Progress, Tally

log = logging.getLogger(__name__)
WORD_LAYER = 2
DROPOUT = 0.1
"""Share of what is shown that the oracle leaves out, for the ViT will miss some of it."""
WORD_WEIGHT = 0.3
RECITED = 0.3
"""How often all facts of a picture are recited."""
POINT_WEIGHT = 0.3
ASKED_LAYER, ASKED_HEADS = 1, 2
"""Heads that attend from an answer to what is asked for ..."""
LOOK_LAYER, LOOK_HEADS = 2, 3
"""... and those that then attend to where it is drawn."""
KINDS = (
    "transcribe",
    "extractive",
    "reason",
    "extractive+cot",
    "reason+cot",
    "recite",
    "calculate",
    "conclude",
)


def answer_loss(
    model: InternVLForConditionalGeneration,
    packed: Packed,
    visual: Float[Tensor, "tiles tokens width"],
    start: int,
    shown: Contents,
) -> tuple[Float[Tensor, ""], dict[str, tuple[float, int]]]:
    """Weighted cross entropy of the replies, and right/all first answer tokens per kind.

    An auxiliary loss asks the second layer which words a visual token shows: once a question's
    word and the picture's word look alike inside the LLM, looking up is a matter of attention.
    """
    llm = model.model.language_model
    embeds = llm.embed_tokens(packed.input_ids)
    stop = start + visual.size(1)
    embeds = torch.cat([embeds[:, :start], visual, embeds[:, stop:]], dim=1)
    attention = [llm.layers[layer].self_attn for layer in (ASKED_LAYER, LOOK_LAYER)]
    with Watched(attention) as (asked, look):
        states = llm(
            inputs_embeds=embeds,
            attention_mask=packed.mask,
            position_ids=packed.position_ids,
            use_cache=False,
            output_hidden_states=True,
        )
    page, place, token = (column[shown[2] < llm.embed_tokens.num_embeddings] for column in shown)
    spelled = model.lm_head(llm.norm(states.hidden_states[WORD_LAYER][page, start + place]))
    loss, found = _reply_loss(model, packed, states.last_hidden_state)
    looking, asking = _pointing(packed, asked, look)
    aside = WORD_WEIGHT * F.cross_entropy(spelled, token) + POINT_WEIGHT * (looking + asking)
    return loss + aside, found | {"look": (looking.item(), 1), "asked": (asking.item(), 1)}


def drill_loss(
    model: InternVLForConditionalGeneration, packed: Packed
) -> tuple[Float[Tensor, ""], dict[str, tuple[float, int]]]:
    """The same of replies without a picture."""
    llm = model.model.language_model
    with Watched([llm.layers[layer].self_attn for layer in (ASKED_LAYER, LOOK_LAYER)]) as glances:
        hidden = llm(
            input_ids=packed.input_ids,
            attention_mask=packed.mask,
            position_ids=packed.position_ids,
            use_cache=False,
        ).last_hidden_state
    comparing, naming = _pointing(packed, *glances)
    loss, found = _reply_loss(model, packed, hidden)
    loss = loss + POINT_WEIGHT * (comparing + naming)
    return loss, found | {"compared": (comparing.item(), 1), "own key": (naming.item(), 1)}


def _pointing(
    packed: Packed, asked: Glance, look: Glance
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """What is missed by heads that look, and by those that attend to names."""
    costs = []
    for glance, column, heads in ((look, 2, LOOK_HEADS), (asked, 3, ASKED_HEADS)):
        told = packed.points[packed.points[:, column] >= 0]
        target = told[:, column, None].expand(-1, heads)
        costs.append(glance.cost(told[:, 0], told[:, 1], target, packed.mask))
    return costs[0], costs[1]


def _reply_loss(
    model: InternVLForConditionalGeneration,
    packed: Packed,
    hidden: Float[Tensor, "batch seq width"],
) -> tuple[Float[Tensor, ""], dict[str, tuple[float, int]]]:
    wanted = packed.weights > 0
    logits = model.lm_head(hidden[wanted])
    target, weight = packed.labels[wanted], packed.weights[wanted]
    loss = (F.cross_entropy(logits, target, reduction="none") * weight).sum() / weight.sum()
    first = packed.first[wanted]
    right = logits.argmax(-1) == target
    found = {
        kind: (float(right[first == code].sum()), count)
        for code, kind in enumerate(KINDS, start=1)
        if (count := int((first == code).sum()))
    }
    return loss, found


CURRICULUM: tuple[tuple[float, tuple[int, ...]], ...] = (
    (0.3, (3, 4, 6)),
    (1.0, (4, 6, 12, 12)),
)
"""Up to which share of the steps a picture holds at most how many facts."""


def practise(packer: Packer, page: Page, rng: Random) -> list[Chat]:
    """Turns about one picture: look-ups above all; now and then all facts."""
    chats = packer.draw(page, rng, transcribe=0.15, look_ups=8, reasons=3)
    recital = [packer.recite(page.spots, rng)] if rng.random() < RECITED else []
    return [*recital, *chats]


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
    tally = Tally({})
    model.train()
    lessons = _lessons(progress.done, steps, batch, seed)
    for step in progress.steps(optimizers, steps, peak):
        pages, rng = next(lessons), Random(f"turns-{seed}-{step}")  # noqa: S311
        chats = [practise(packer, page, rng) for page in pages]
        shown = packer.contents([page.words for page in pages])
        missed = torch.Generator().manual_seed(rng.getrandbits(63))
        kept = torch.rand(len(shown[0]), generator=missed) >= DROPOUT
        seen = (shown[0][kept], shown[1][kept], shown[2][kept])
        visual = oracle(to_characters(pages), seen)
        loss, found = answer_loss(model, packer.pack(chats), visual, packer.visual_at, shown)
        drilled, worked = drill_loss(model, packer.pack(drills(packer, rng), pictured=False))
        (loss + drilled).backward()
        tally.add(found | worked)
        if step % 50 == 0:
            log.info("text %d/%d loss %.3f %s", step, steps, loss.item(), tally)
    model.eval()
    return tally


def _lessons(first: int, steps: int, batch: int, seed: int) -> Iterator[list[Page]]:
    """Batches of pages from step ``first`` on, with ever more facts."""
    for share, densities in CURRICULUM:
        last = int(share * steps)
        if first < last:
            stream = PageStream(first * batch, seed + 1, densities=densities, run=batch)
            yield from islice(batches(stream, batch), last - first)
            first = last
