"""Packing: one picture and several turns in one sequence, so that its visual tokens are read once.

Every turn sees the picture and itself, not the other turns, and counts positions from the end of the picture: each
turn's logits are those it would have in a sequence of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from random import Random

import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import InternVLConfig, InternVLForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from fcotvl.compress.checkpoints import processor_for
from fcotvl.compress.config import FcotvlConfig, train_tokens
from fcotvl.compress.positions import positions, visual_widths
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.compress.student import Visual
from fcotvl.compress.tile_complexity import tile_complexity
from fcotvl.core.geometry import tokens_per_tile
from fcotvl.core.prompts import Prompts
from fcotvl.train.dataset import Corpus, RowRef, ShuffledEpochs
from fcotvl.train.losses import IGNORE, answer_positions, hidden_distance, item_sums, text_weights
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
    """Pictures and the turns asked about each.

    Pixels travel as bytes, a quarter of their normalised size, and are normalised on the device.
    """

    pixels: UInt8[Tensor, "tile 3 h w"]
    num_tiles: list[int]
    turns: list[list[TurnTokens]]
    image_token_id: int
    image_mean: Sequence[float]
    image_std: Sequence[float]
    tile_tokens: list[int] | None = None
    """How many visual tokens a student makes of each tile, where that is chosen by tile or drawn by picture."""
    cut: Sequence[int] = ()
    """Answer tokens that each picture's row had no room for; empty: none."""

    def __len__(self) -> int:
        return len(self.turns)

    @property
    def pixel_values(self) -> Float[Tensor, "tile 3 h w"]:
        """The tiles as the ViT reads them, computed at each call; bit for bit the image processor's on a CPU."""
        mean, std = (self.pixels.new_tensor(x, dtype=torch.float32) for x in (self.image_mean, self.image_std))
        return (self.pixels.float() / 255 - mean[:, None, None]) / std[:, None, None]

    def cut_tokens(self) -> Float[Tensor, " row"]:
        """``cut`` as a tensor."""
        return torch.tensor(self.cut or [0] * len(self), dtype=torch.float32, device=self.pixels.device)

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``."""
        return replace(self, pixels=self.pixels.to(device, non_blocking=True))

    def select(self, items: Sequence[int]) -> Batch:
        """The batch of these pictures alone."""
        starts = [0, *accumulate(self.num_tiles)]
        tiles = [tile for item in items for tile in range(starts[item], starts[item + 1])]
        return replace(
            self,
            pixels=self.pixels[tiles],
            num_tiles=[self.num_tiles[item] for item in items],
            turns=[self.turns[item] for item in items],
            tile_tokens=self.tile_tokens and [self.tile_tokens[tile] for tile in tiles],
            cut=self.cut and [self.cut[item] for item in items],
        )

    def lengths(self) -> list[int]:
        """Tokens of each picture's row before compression."""
        per_tile = tokens_per_tile(self.pixels.shape[-1])
        return [
            tiles * per_tile + len(turns[0].prefix) + sum(len(turn.suffix) for turn in turns)
            for tiles, turns in zip(self.num_tiles, self.turns, strict=True)
        ]

    def micro_batches(self, max_tokens: int, count: int = 1) -> list[list[int]]:
        """Share the pictures out to micro-batches of at most ``max_tokens``, padding to the longest row counted.

        Pictures of similar length go together. A picture that is longer than that goes alone.

        Args:
            max_tokens: tokens before compression.
            count: the least number of micro-batches; each picture is in one.
        """
        lengths = self.lengths()
        parts: list[list[int]] = []
        for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
            if parts and lengths[parts[-1][0]] * (len(parts[-1]) + 1) <= max_tokens:
                parts[-1].append(item)
            else:
                parts.append([item])
        while len(parts) < min(count, len(lengths)):
            largest = max(parts, key=len)
            parts.append([largest.pop() for _ in range(len(largest) // 2)])
        return [sorted(part) for part in parts]


@dataclass(frozen=True)
class PackedBatch:
    """A batch as one model reads it: one row per picture."""

    input_ids: Int[Tensor, "row seq"]
    labels: Int[Tensor, "row seq"]
    position_ids: Int[Tensor, "row seq"]
    turn: Int[Tensor, "row seq"]
    """0 on the picture and what precedes it, k on the k-th turn, -1 on padding."""


@dataclass(frozen=True)
class HiddenStates:
    """Hidden states of every token of the turns of a batch, questions included, with the picture and turn of each."""

    layers: Sequence[Float[Tensor, "text hidden"]]
    """After each layer of the LLM; the last ones are normalised, as ``Answers.states`` are."""
    items: Int[Tensor, " text"]
    turns: Int[Tensor, " text"]


@dataclass(frozen=True)
class Answers:
    """What a model's head reads at the answer tokens of a batch, with the picture and turn of each."""

    states: Float[Tensor, "answer hidden"]
    """Last hidden states: ``lm_head`` makes the logits of them."""
    targets: Int[Tensor, " answer"]
    items: Int[Tensor, " answer"]
    """Row of the batch."""
    turns: Int[Tensor, " answer"]
    """Number of the turn, unique within the batch."""
    hidden: HiddenStates | None = None
    """If they were asked for."""


def collate(
    pictures: Sequence[Image.Image],
    chats: Sequence[Sequence[Chat]],
    processor: FcotvlProcessor,
    *,
    max_tiles: int,
    max_length: int | None = None,
) -> Batch:
    """Tile and normalise the pictures, and tokenise the chats about each, up to ``max_length`` tokens a picture."""
    images = processor.image_processor
    vision = images(list(pictures), max_tiles=max_tiles, do_rescale=False, do_normalize=False, return_tensors="pt")
    turns = [[_tokenise(chat, processor) for chat in own] for own in chats]
    cut: list[int] = []
    if max_length is not None:
        per_tile = tokens_per_tile(vision["pixel_values"].shape[-1])
        whole = turns
        turns = [
            fitting(own, max_length - tiles * per_tile) for own, tiles in zip(whole, vision["num_tiles"], strict=True)
        ]
        cut = [_answer_tokens(a) - _answer_tokens(b) for a, b in zip(whole, turns, strict=True)]
    tile_tokens = vision["tile_tokens"].tolist() if "tile_tokens" in vision else None
    normalisation = (tuple(images.image_mean), tuple(images.image_std))
    pixels, num_tiles = vision["pixel_values"], vision["num_tiles"]
    return Batch(pixels, num_tiles, turns, processor.image_token_id, *normalisation, tile_tokens, cut)


def fitting(turns: Sequence[TurnTokens], room: int) -> list[TurnTokens]:
    """The turns that fit into ``room`` tokens behind the picture; the last one cut.

    InternVL2's own training does the same to a chat (``truncation=True`` up to ``max_seq_length``). The first answer
    keeps a token, however long its question.
    """
    room -= len(turns[0].prefix)
    kept: list[TurnTokens] = []
    for turn in turns:
        least = next((i for i, label in enumerate(turn.labels, start=1) if label != IGNORE), len(turn.labels))
        length = room if kept else max(room, least)
        if length < least:
            break
        kept.append(replace(turn, suffix=turn.suffix[:length], labels=turn.labels[:length]))
        room -= len(turn.suffix)
    return kept


def _answer_tokens(turns: Sequence[TurnTokens]) -> int:
    return sum(label != IGNORE for turn in turns for label in turn.labels)


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
    max_length: int | None = None
    """Most tokens of a picture and its chats before compression; none: any number."""
    tile_tokens: tuple[int, ...] = ()
    """What a picture's tiles may become, if that is drawn for each picture."""

    def for_student(self, config: FcotvlConfig) -> BatchBuilder:
        """The same for a student: a builder has the teacher's processor at first."""
        return replace(self, processor=processor_for(self.processor, config), tile_tokens=train_tokens(config))

    def build(self, refs: Sequence[RowRef], chats: Sequence[Sequence[Chat]], names: Sequence[str]) -> Batch:
        """The pictures at ``refs``, each with its chats.

        ``names`` tell one use of a picture from all others in a run. What is drawn depends on them alone, and so not on
        the processes and micro-batches that a step is shared out to.
        """
        pictures = [self.corpus[ref].decode() for ref in refs]
        batch = collate(pictures, chats, self.processor, max_tiles=self.max_tiles, max_length=self.max_length)
        if not self.tile_tokens:
            return batch
        drawn = [Random(f"tokens-{name}").choice(self.tile_tokens) for name in names]  # noqa: S311
        counts = [count for count, tiles in zip(drawn, batch.num_tiles, strict=True) for _ in range(tiles)]
        return replace(batch, tile_tokens=counts)

    def tile_complexities(self, max_pictures: int) -> list[float]:
        """The complexity of each tile of up to ``max_pictures``, the same in every run."""
        order = ShuffledEpochs(self.corpus.refs(), "details")
        complexities = []
        for index in range(min(max_pictures, len(order))):
            picture = self.corpus[order[index]].decode()
            vision = self.processor.image_processor(picture, max_tiles=self.max_tiles)
            complexities += [tile_complexity(tile) for tile in vision["pixel_values"]]
        return complexities


def pack(batch: Batch, visual: Visual, config: InternVLConfig) -> PackedBatch:
    """Lay out each picture's visual tokens and turns; rows are padded on the right.

    Args:
        batch: pictures and turns.
        visual: the visual tokens that a model reads of each tile; only their number matters here.
        config: that model's, which says how positions are counted.
    """
    device, lengths = visual[0].device, iter([len(tile) for tile in visual])
    rows = [
        _row(turns, batch.image_token_id, visual_widths(config, list(islice(lengths, tiles))))
        for turns, tiles in zip(batch.turns, batch.num_tiles, strict=True)
    ]
    fill = (batch.turns[0][0].prefix[0], IGNORE, 0, PADDING)
    columns = [
        pad_sequence([torch.tensor(row[i]) for row in rows], batch_first=True, padding_value=value)
        for i, value in enumerate(fill)
    ]
    return PackedBatch(*(column.to(device) for column in columns))


def _row(turns: Sequence[TurnTokens], image_token_id: int, visual: list[int]) -> tuple[list[int], ...]:
    """Ids, labels, positions and turn numbers of one picture, given the widths of its visual tokens."""
    ids = turns[0].prefix + [image_token_id] * len(visual)
    widths = [1] * len(turns[0].prefix) + visual
    places: list[int] = positions(torch.tensor(widths)).tolist()
    shared, labels, numbers = sum(widths), [IGNORE] * len(ids), [PICTURE] * len(ids)
    for number, turn in enumerate(turns, start=1):
        ids += turn.suffix
        labels += turn.labels
        places += range(shared, shared + len(turn.suffix))
        numbers += [number] * len(turn.suffix)
    return ids, labels, places, numbers


def answer_states(
    model: InternVLForConditionalGeneration, batch: Batch, visual: Visual, *, hidden: bool = False
) -> Answers:
    """Hidden states of ``model`` at the answer tokens, given its own projected visual tokens.

    Logits are computed of these alone: most positions are visual tokens and prompts.

    Args:
        model: teacher or student.
        batch: pictures and turns.
        visual: what ``model`` reads of each tile.
        hidden: whether hidden states of all layers are wanted. The tokens of the turns are the same for every model,
            in the same order.
    """
    packed = pack(batch, visual, model.config)
    output = model.model(
        input_ids=packed.input_ids,
        attention_mask=turn_mask(packed.turn),
        shared_prefix=int((packed.turn != PICTURE).int().argmax(dim=1).min()),
        position_ids=packed.position_ids,
        mm_encoder_outputs={"image": BaseModelOutputWithPooling(pooler_output=torch.cat(list(visual)))},
        use_cache=False,
        output_hidden_states=hidden,
    )
    numbers = torch.arange(len(batch), device=packed.turn.device)[:, None] * (int(packed.turn.max()) + 1) + packed.turn
    row, column = answer_positions(packed.labels).unbind(1)
    answers = Answers(
        output.last_hidden_state[row, column], packed.labels[row, column + 1], row, numbers[row, column + 1]
    )
    if not hidden:
        return answers
    row, column = (packed.turn > PICTURE).nonzero().unbind(1)
    layers = [states[row, column] for states in output.hidden_states[1:]]
    return replace(answers, hidden=HiddenStates(layers, row, numbers[row, column]))


def add_hidden(sums: dict[str, Tensor], student: Answers, teacher: Answers, weight: float) -> dict[str, Tensor]:
    """``sums`` of each item with the weighed ``hidden_distance`` of its tokens, and that in the loss.

    Args:
        sums: an objective's, with ``loss``; they are returned as they are where hidden states were not asked for.
        student: what the student reads.
        teacher: what the teacher reads of the same turns.
        weight: of ``hidden`` in the loss.
    """
    if student.hidden is None or teacher.hidden is None:
        return sums
    distance = hidden_distance(student.hidden.layers, teacher.hidden.layers)
    weighed = {"hidden": text_weights(student.hidden.turns, student.turns) * distance}
    hidden = item_sums(weighed, student.hidden.items, len(sums["loss"]))
    return sums | hidden | {"loss": sums["loss"] + weight * hidden["hidden"]}
