"""Where the LLM looks while it writes: its attention to visual tokens, by layer.

Every system writes the same words, token by token: the teacher's replies. So the same positions of the same text are
compared, and systems differ in what they see, not in what they say. A reply under chain of thought has two parts, the
reasoning, which reads the picture, and the answer after it, which can be read from the reasoning.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isqrt
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache, InternVLForConditionalGeneration

from fcotvl.compress.config import full_tokens
from fcotvl.compress.positions import positions, token_widths
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.compress.student import Visual, encode_tiles, project_visual_tokens
from fcotvl.core.answers import final_answer
from fcotvl.core.geometry import best_grid
from fcotvl.core.prompts import MARKER
from fcotvl.core.records import Record
from fcotvl.evaluate.answer_place import Point, answer_place
from fcotvl.evaluate.token_map import areas
from fcotvl.inference.decoding import Ids, embed


class Reading(NamedTuple):
    """How one layer attends to a picture, mean over the positions that predict the tokens of a part of a reply."""

    part: str
    """``answer``, or ``reasoning`` before it."""
    layer: int
    """From 0."""
    positions: int
    mass: float
    """Share of attention on visual tokens, 0..1; the rest is on text."""
    entropy: float
    """Of that attention over the visual tokens: 0 on one of them, 1 on all alike, whatever their number."""
    place: float
    """Share of that attention on the tokens that cover the answer's place in the picture; NaN where none is known."""
    chance: float
    """Share of the visual tokens that cover it: ``place`` of attention that is on all alike."""


@torch.inference_mode()
def read(
    model: InternVLForConditionalGeneration,
    processor: FcotvlProcessor,
    record: Record,
    prompt: str,
    reply: str,
    *,
    max_tiles: int | None = None,
) -> list[Reading]:
    """How each layer attends to the picture while ``reply`` is written.

    Args:
        model: teacher or student.
        processor: adapted to the model's visual tokens.
        record: the picture.
        prompt: the user's words.
        reply: the words that are written.
        max_tiles: largest number of tiles, thumbnail not counted; by default the processor's.
    """
    picture = record.decode()
    inputs = processor(picture, processor.render(prompt), max_tiles=max_tiles).to(model.device)
    counts = inputs["tile_tokens"].tolist() if "tile_tokens" in inputs else None
    features = project_visual_tokens(model.model, encode_tiles(model.model, inputs["pixel_values"]), counts)
    said = processor.tokenizer(reply, add_special_tokens=False, return_offsets_mapping=True, return_tensors="pt")
    parts = split(reply, said.pop("offset_mapping")[0].tolist())
    if not any(parts.values()):
        return []
    weights = attention(model, inputs["input_ids"], features, said["input_ids"].to(model.device))
    visual = (inputs["input_ids"][0] == model.config.image_token_id).nonzero()[:, 0]
    sizes = list(map(len, features))
    grid = best_grid(
        *picture.size,
        tile_size=processor.image_processor.tile_size,
        max_tiles=max_tiles or processor.image_processor.max_tiles,
    )
    own = covering(model, sizes, grid, answer_place(record, final_answer(reply))).to(model.device)
    seen = weights[..., visual]
    return [
        Reading(part, layer, len(positions), *_summary(seen[layer, positions], own))
        for part, positions in parts.items()
        if positions
        for layer in range(len(seen))
    ]


def attention(
    model: InternVLForConditionalGeneration, input_ids: Ids, features: Visual, reply: Int[Tensor, "row said"]
) -> Float[Tensor, "layer position key"]:
    """The attention of the positions that predict the tokens of ``reply``, mean over heads.

    The prompt is read as ever. Only these few positions pass the implementation of transformers that returns weights,
    so that no square of a long prompt is in memory.

    Args:
        model: teacher or student.
        input_ids: one prompt, its last token before the reply.
        features: projected visual tokens of its tiles.
        reply: one row of at least one token.

    Returns:
        For each layer and each token of the reply the weights over prompt and reply, whose last token predicts nothing
        and is left out. They sum to 1.
    """
    llm = model.model.language_model
    ids = torch.cat([input_ids, reply], dim=1)
    embedded = embed(model, ids, features)
    places = positions(token_widths(model.config, ids, torch.ones_like(ids), [len(tile) for tile in features]))
    start, cache = input_ids.shape[1] - 1, DynamicCache(config=llm.config)
    prompt, told = slice(start), slice(start, -1)
    llm(inputs_embeds=embedded[:, prompt], position_ids=places[:, prompt], past_key_values=cache, use_cache=True)
    with _returning_weights(llm):
        found = llm(
            inputs_embeds=embedded[:, told],
            position_ids=places[:, told],
            past_key_values=cache,
            use_cache=True,
            output_attentions=True,
        )
    return torch.stack([weights[0].float().mean(dim=0) for weights in found.attentions])


def split(reply: str, offsets: Sequence[Sequence[int]]) -> dict[str, list[int]]:
    """Numbers of the tokens of a reply's reasoning and answer; of the last ``Answer:`` between them, none.

    A reply without it is an answer.

    Args:
        reply: the words.
        offsets: where each token begins and ends in them.
    """
    before, marker, _ = reply.rpartition(MARKER)
    start = len(before) + len(marker)
    return {
        "reasoning": [i for i, (_, end) in enumerate(offsets) if marker and end <= len(before)],
        "answer": [i for i, (begin, _) in enumerate(offsets) if begin >= start],
    }


def covering(
    model: InternVLForConditionalGeneration, sizes: Sequence[int], grid: tuple[int, int], points: Sequence[Point]
) -> Bool[Tensor, " token"]:
    """Which visual tokens cover one of ``points``: they read the cell that it lies in.

    Args:
        model: teacher or student.
        sizes: visual tokens of each tile, tiles row by row, then the thumbnail, where there is more than one tile.
        grid: columns and rows of tiles.
        points: places in the picture, as shares of its width and height.
    """
    (columns, rows), side = grid, isqrt(full_tokens(model.config))
    cells: Mapping[int, set[int]] = {tile: set() for tile in range(len(sizes))}
    for x, y in points:
        row, column = int(y * rows * side), int(x * columns * side)
        cells[row // side * columns + column // side].add(row % side * side + column % side)
        if len(sizes) > 1:
            cells[len(sizes) - 1].add(int(y * side) * side + int(x * side))
    found = torch.zeros(sum(sizes), dtype=torch.bool)
    for tile, size in enumerate(sizes):
        for area in areas(model, size) if cells[tile] else ():
            if area.cells & cells[tile]:
                found[[sum(sizes[:tile]) + token for token in area.tokens]] = True
    return found


def _summary(seen: Float[Tensor, "position token"], own: Bool[Tensor, " token"]) -> tuple[float, float, float, float]:
    """Mass, entropy, place and chance of one layer."""
    mass = seen.sum(dim=-1, keepdim=True)
    entropy = torch.special.entr(seen / mass).sum(dim=-1).mean() / math.log(seen.shape[-1])
    known = bool(own.any())
    place = float(seen[:, own].sum() / mass.sum()) if known else math.nan
    return float(mass.mean()), float(entropy), place, float(own.float().mean()) if known else math.nan


@contextmanager
def _returning_weights(llm: Any) -> Iterator[None]:
    """While entered, the LLM computes attention in the one way that returns its weights."""
    usual = llm.config._attn_implementation
    llm.set_attn_implementation("eager")
    try:
        yield
    finally:
        llm.set_attn_implementation(usual)
