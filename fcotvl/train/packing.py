"""Packing: one picture and several turns in one sequence, so that its visual tokens are read once.

Every turn sees the picture and itself, not the other turns, and counts positions from the end of
the picture: each turn's logits are those it would have in a sequence of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor
from transformers import InternVLForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.compress.student import Visual
from fcotvl.train.losses import IGNORE, answer_positions

PICTURE = 0
PADDING = -1


@dataclass(frozen=True)
class Chat:
    """One turn in words."""

    prompt: str
    reply: str


@dataclass(frozen=True)
class Tokens:
    """One turn in token ids, without the visual tokens."""

    before: list[int]
    """Up to the first visual token."""
    after: list[int]
    labels: list[int]
    """Of ``after``; what comes before the picture is never an answer."""


@dataclass(frozen=True)
class Batch:
    """Pictures and the turns asked about each."""

    pixel_values: Float[Tensor, "tile 3 h w"]
    num_tiles: list[int]
    turns: list[list[Tokens]]
    image_token_id: int
    tile_tokens: list[int] | None = None
    """How many visual tokens a student makes of each tile, where that is chosen tile by tile."""

    def __len__(self) -> int:
        return len(self.turns)

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``."""
        return replace(self, pixel_values=self.pixel_values.to(device))


@dataclass(frozen=True)
class Packed:
    """A batch as one model reads it: one row per picture."""

    input_ids: Int[Tensor, "row seq"]
    labels: Int[Tensor, "row seq"]
    position_ids: Int[Tensor, "row seq"]
    turn: Int[Tensor, "row seq"]
    """0 on the picture and what precedes it, k on the k-th turn, -1 on padding."""

    @property
    def attention_mask(self) -> Bool[Tensor, "row 1 seq seq"]:
        """Who sees whom: earlier positions of the picture and of one's own turn."""
        query, key = self.turn[:, :, None], self.turn[:, None, :]
        return (((key == PICTURE) | (key == query)).tril() & (key != PADDING) | _itself(query))[
            :, None
        ]


def _itself(query: Int[Tensor, "row seq 1"]) -> Bool[Tensor, "1 seq seq"]:
    """Padding sees itself: a row of a softmax must not be empty."""
    return torch.eye(query.shape[1], dtype=torch.bool, device=query.device)[None]


def collate(
    pictures: Sequence[Image.Image],
    chats: Sequence[Sequence[Chat]],
    processor: FcotvlProcessor,
    *,
    max_tiles: int,
) -> Batch:
    """Cut and normalise the pictures, and tokenise what is asked about each and answered."""
    vision = processor.image_processor(list(pictures), max_tiles=max_tiles, return_tensors="pt")
    turns = [[_tokens(chat, processor) for chat in asked] for asked in chats]
    chosen = vision["tile_tokens"].tolist() if "tile_tokens" in vision else None
    return Batch(
        vision["pixel_values"], vision["num_tiles"], turns, processor.image_token_id, chosen
    )


def _tokens(chat: Chat, processor: FcotvlProcessor) -> Tokens:
    ids, labels = processor.encode(chat.prompt, chat.reply, num_tiles=1)
    start = ids.index(processor.image_token_id)
    end = start + processor.image_seq_length
    return Tokens(ids[:start], ids[end:], labels[end:])


def pack(batch: Batch, visual: Visual) -> Packed:
    """Lay out each picture's visual tokens and turns; rows are padded on the right.

    Args:
        batch: pictures and turns.
        visual: what a model reads of each tile; rows have as many places for it.
    """
    device, lengths = visual[0].device, iter([len(tile) for tile in visual])
    rows = [
        _row(turns, [batch.image_token_id] * sum(islice(lengths, tiles)))
        for turns, tiles in zip(batch.turns, batch.num_tiles, strict=True)
    ]
    longest = max(len(row[0]) for row in rows)
    blanks = (batch.turns[0][0].before[0], IGNORE, 0, PADDING)
    columns = [
        torch.tensor([row[i] + [blank] * (longest - len(row[i])) for row in rows], device=device)
        for i, blank in enumerate(blanks)
    ]
    return Packed(*columns)


def _row(turns: Sequence[Tokens], visual: list[int]) -> tuple[list[int], ...]:
    """Ids, labels, positions and turn numbers of one picture."""
    ids = turns[0].before + visual
    shared = len(ids)
    labels, positions, number = [IGNORE] * shared, list(range(shared)), [PICTURE] * shared
    for k, turn in enumerate(turns, start=1):
        ids = ids + turn.after
        labels = labels + turn.labels
        positions = positions + list(range(shared, shared + len(turn.after)))
        number = number + [k] * len(turn.after)
    return ids, labels, positions, number


@dataclass(frozen=True)
class Answers:
    """What a model says at the answer tokens of a batch, and whose they are."""

    logits: Float[Tensor, "answer vocab"]
    targets: Int[Tensor, " answer"]
    items: Int[Tensor, " answer"]
    """Row of the batch."""
    turns: Int[Tensor, " answer"]
    """Number of the turn, unique within the batch."""


def answers(
    model: InternVLForConditionalGeneration,
    packed: Packed,
    visual: Visual,
) -> Answers:
    """Logits of ``model`` at the answer tokens, given its own projected visual tokens.

    Only there the vocabulary is computed: most positions are visual tokens and prompts.
    """
    hidden = model.model(
        input_ids=packed.input_ids,
        attention_mask=packed.attention_mask,
        position_ids=packed.position_ids,
        mm_encoder_outputs={
            "image": BaseModelOutputWithPooling(pooler_output=torch.cat(list(visual)))
        },
        use_cache=False,
    ).last_hidden_state
    row, column = answer_positions(packed.labels).unbind(1)
    turns = row * (int(packed.turn.max()) + 1) + packed.turn[row, column + 1]
    targets = packed.labels[row, column + 1]
    return Answers(model.lm_head(hidden[row, column]), targets, row, turns)
