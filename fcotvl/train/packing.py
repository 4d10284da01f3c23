"""Packing: one picture and several turns in one sequence, so that its visual tokens are read once.

Every turn sees the picture and itself, not the other turns, and counts positions from the end of the picture: each
turn's logits are those it would have in a sequence of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import InternVLForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.compress.student import Visual
from fcotvl.compress.tile_complexity import tile_complexity
from fcotvl.core.prompts import Prompts
from fcotvl.train.dataset import Corpus, RowRef, ShuffledEpochs
from fcotvl.train.losses import IGNORE, answer_positions
from fcotvl.train.turn_mask import PICTURE, turn_mask

MAX_TURNS = 3
"""Turns about one picture in one step."""
PADDING = -1


@dataclass(frozen=True)
class Chat:
    """One turn in words."""

    prompt: str
    reply: str


@dataclass(frozen=True)
class TurnTokens:
    """One turn as token ids, without the visual tokens."""

    prefix: list[int]
    """Ids before the first visual token."""
    suffix: list[int]
    """Ids after the last visual token."""
    labels: list[int]
    """Labels of ``suffix``; the prefix never holds an answer."""


@dataclass(frozen=True)
class Batch:
    """Pictures and the turns asked about each."""

    pixel_values: Float[Tensor, "tile 3 h w"]
    num_tiles: list[int]
    turns: list[list[TurnTokens]]
    image_token_id: int
    tile_tokens: list[int] | None = None
    """How many visual tokens a student makes of each tile, where that is chosen tile by tile."""

    def __len__(self) -> int:
        return len(self.turns)

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``."""
        return replace(self, pixel_values=self.pixel_values.to(device))


@dataclass(frozen=True)
class PackedBatch:
    """A batch as one model reads it: one row per picture."""

    input_ids: Int[Tensor, "row seq"]
    labels: Int[Tensor, "row seq"]
    position_ids: Int[Tensor, "row seq"]
    turn: Int[Tensor, "row seq"]
    """0 on the picture and what precedes it, k on the k-th turn, -1 on padding."""


@dataclass(frozen=True)
class AnswerLogits:
    """Logits at the answer tokens of a batch, with the picture and turn of each."""

    logits: Float[Tensor, "answer vocab"]
    targets: Int[Tensor, " answer"]
    items: Int[Tensor, " answer"]
    """Row of the batch."""
    turns: Int[Tensor, " answer"]
    """Number of the turn, unique within the batch."""


def collate(
    pictures: Sequence[Image.Image], chats: Sequence[Sequence[Chat]], processor: FcotvlProcessor, *, max_tiles: int
) -> Batch:
    """Tile and normalise the pictures, and tokenise the chats about each."""
    vision = processor.image_processor(list(pictures), max_tiles=max_tiles, return_tensors="pt")
    turns = [[_tokenise(chat, processor) for chat in own] for own in chats]
    tile_tokens = vision["tile_tokens"].tolist() if "tile_tokens" in vision else None
    return Batch(vision["pixel_values"], vision["num_tiles"], turns, processor.image_token_id, tile_tokens)


def _tokenise(chat: Chat, processor: FcotvlProcessor) -> TurnTokens:
    ids, labels = processor.encode(chat.prompt, chat.reply, num_tiles=1)
    start = ids.index(processor.image_token_id)
    end = start + processor.image_seq_length
    return TurnTokens(ids[:start], ids[end:], labels[end:])


@dataclass(frozen=True)
class BatchBuilder:
    """Makes batches of a corpus for one model, whose processor it holds."""

    corpus: Corpus
    processor: FcotvlProcessor
    prompts: Prompts
    max_tiles: int
    """Most tiles per picture, thumbnail not counted."""

    def build(self, refs: Sequence[RowRef], chats: Sequence[Sequence[Chat]]) -> Batch:
        """The pictures at ``refs``, each with its chats."""
        pictures = [self.corpus[ref].decode() for ref in refs]
        return collate(pictures, chats, self.processor, max_tiles=self.max_tiles)

    def tile_complexities(self, max_pictures: int) -> list[float]:
        """The complexity of each tile of up to ``max_pictures``, the same in every run."""
        order = ShuffledEpochs(self.corpus.refs(), "details")
        complexities = []
        for index in range(min(max_pictures, len(order))):
            picture = self.corpus[order[index]].decode()
            vision = self.processor.image_processor(picture, max_tiles=self.max_tiles)
            complexities += [tile_complexity(tile) for tile in vision["pixel_values"]]
        return complexities


def pack(batch: Batch, visual: Visual) -> PackedBatch:
    """Lay out each picture's visual tokens and turns; rows are padded on the right.

    Args:
        batch: pictures and turns.
        visual: the visual tokens that a model reads of each tile; only their number matters here.
    """
    device, lengths = visual[0].device, iter([len(tile) for tile in visual])
    rows = [
        _row(turns, [batch.image_token_id] * sum(islice(lengths, tiles)))
        for turns, tiles in zip(batch.turns, batch.num_tiles, strict=True)
    ]
    fill = (batch.turns[0][0].prefix[0], IGNORE, 0, PADDING)
    columns = [
        pad_sequence([torch.tensor(row[i]) for row in rows], batch_first=True, padding_value=value)
        for i, value in enumerate(fill)
    ]
    return PackedBatch(*(column.to(device) for column in columns))


def _row(turns: Sequence[TurnTokens], visual_ids: list[int]) -> tuple[list[int], ...]:
    """Ids, labels, positions and turn numbers of one picture."""
    ids = turns[0].prefix + visual_ids
    shared = len(ids)
    labels, positions, numbers = [IGNORE] * shared, list(range(shared)), [PICTURE] * shared
    for number, turn in enumerate(turns, start=1):
        ids += turn.suffix
        labels += turn.labels
        positions += range(shared, shared + len(turn.suffix))
        numbers += [number] * len(turn.suffix)
    return ids, labels, positions, numbers


def answer_logits(model: InternVLForConditionalGeneration, batch: Batch, visual: Visual) -> AnswerLogits:
    """Logits of ``model`` at the answer tokens, given its own projected visual tokens.

    The vocabulary is computed only there: most positions are visual tokens and prompts.
    """
    packed = pack(batch, visual)
    hidden = model.model(
        input_ids=packed.input_ids,
        attention_mask=turn_mask(packed.turn),
        position_ids=packed.position_ids,
        mm_encoder_outputs={"image": BaseModelOutputWithPooling(pooler_output=torch.cat(list(visual)))},
        use_cache=False,
    ).last_hidden_state
    row, column = answer_positions(packed.labels).unbind(1)
    turns = row * (int(packed.turn.max()) + 1) + packed.turn[row, column + 1]
    targets = packed.labels[row, column + 1]
    return AnswerLogits(model.lm_head(hidden[row, column]), targets, row, turns)
