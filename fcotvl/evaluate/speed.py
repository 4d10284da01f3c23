"""Wall-clock time of a system's parts as ratios to the teacher, measured in turn in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.checkpoints import processor_for
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.compress.student import encode_tiles, project_visual_tokens
from fcotvl.core.records import Record
from fcotvl.evaluate.cost import cost
from fcotvl.inference.decoding import Decoder, Ids, Mask
from fcotvl.inference.fastv import Prune, PrunedDecoder

PARTS = ("vision", "prefill", "decode", "total")
"""ViT and connector; the LLM's first pass; one further token; an answer of ``NEW_TOKENS``."""
NEW_TOKENS = 16


@dataclass(frozen=True)
class Contender:
    """A system in the race; the first one is what the others are measured against."""

    name: str
    model: InternVLForConditionalGeneration
    prune: Prune | None = None


def race(
    contenders: Sequence[Contender],
    processor: FcotvlProcessor,
    records: Sequence[Record],
    prompt: Callable[[Record], str],
    *,
    max_tiles: int,
    pairs: int,
) -> pd.DataFrame:
    """Time of each part as a ratio to the first contender's in the same turn.

    Args:
        contenders: the teacher, then the others.
        processor: the teacher's.
        records: one batch of images.
        prompt: what each image is asked.
        max_tiles: tiles an image at most.
        pairs: turns that count; one more comes first, to warm up.

    Returns:
        system, part, time (median ratio; 0.5 is twice as fast), low, high (least and greatest: of
        7 turns they enclose the true median with 98 % confidence), flops (ratio that the cost
        model predicts), pairs, removed (share of the first's visual tokens that the prompts do not
        have; pruning comes later), tiles (of all images).
    """
    batches = {c.name: _prepare(c, processor, records, prompt, max_tiles) for c in contenders}
    turns = [
        {c.name: _time(c, batches[c.name]) for c in contenders}
        for _ in tqdm(range(pairs + 1), desc="speed", disable=None)
    ]
    work = {c.name: _flops(c, batches[c.name]) for c in contenders}
    first = contenders[0].name
    visual = {
        c.name: int((batches[c.name].input_ids == c.model.config.image_token_id).sum())
        for c in contenders
    }
    rows = []
    for contender in contenders[1:]:
        for part in PARTS:
            ratios = pd.Series(
                [turn[contender.name][part] / turn[first][part] for turn in turns[1:]]
            )
            rows.append(
                {
                    "system": contender.name,
                    "part": part,
                    "time": ratios.median(),
                    "low": ratios.min(),
                    "high": ratios.max(),
                    "flops": work[contender.name][part] / work[first][part],
                    "pairs": pairs,
                    "removed": 1 - visual[contender.name] / visual[first],
                    "tiles": len(batches[contender.name].pixels),
                }
            )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Batch:
    """What one contender is given: the same images and words, with its own number of tokens."""

    pixels: Float[Tensor, "tile 3 h w"]
    input_ids: Ids
    attention_mask: Mask
    names: list[str]
    tiles: Sequence[int | list[int]]
    """Of each image, as the processor's ``tiles`` gives them."""
    chosen: list[int] | None
    """Visual tokens of each tile, where the processor chooses them."""


def _prepare(
    contender: Contender,
    processor: FcotvlProcessor,
    records: Sequence[Record],
    prompt: Callable[[Record], str],
    max_tiles: int,
) -> Batch:
    model = contender.model
    adapted = processor_for(processor, model.config)
    seen = adapted.image_processor(
        [record.decode() for record in records], max_tiles=max_tiles, return_tensors="pt"
    )
    tiles = adapted.tiles(seen)
    chats = adapted.expand([adapted.render(prompt(r)) for r in records], tiles)
    tokens = adapted.tokenizer(
        chats, padding=True, padding_side="left", add_special_tokens=False, return_tensors="pt"
    ).to(model.device)
    return Batch(
        seen["pixel_values"].to(model.device, model.dtype),
        tokens["input_ids"],
        tokens["attention_mask"],
        [record.id for record in records],
        tiles,
        seen["tile_tokens"].tolist() if "tile_tokens" in seen else None,
    )


def _time(contender: Contender, batch: Batch) -> dict[str, float]:
    """Seconds of each part for one batch."""
    model, prune = contender.model, contender.prune
    decoder = PrunedDecoder(model, prune, batch.names) if prune else Decoder(model)
    with torch.inference_mode():
        began = _now()
        features = project_visual_tokens(
            model.model, encode_tiles(model.model, batch.pixels), batch.chosen
        )
        looked = _now()
        logits = decoder.prefill(batch.input_ids, batch.attention_mask, features)
        read = _now()
        for _ in range(NEW_TOKENS - 1):
            logits = decoder.step(logits.argmax(dim=-1))
        answered = _now()
    return {
        "vision": looked - began,
        "prefill": read - looked,
        "decode": (answered - read) / (NEW_TOKENS - 1),
        "total": answered - began,
    }


def _flops(contender: Contender, batch: Batch) -> dict[str, int]:
    """What the cost model predicts for the same parts."""
    config = contender.model.config
    is_text = batch.attention_mask.bool() & (batch.input_ids != config.image_token_id)
    lengths = is_text.sum(dim=-1).tolist()
    costs = [
        cost(config, tiles=tiles, text_tokens=length, prune=contender.prune)
        for tiles, length in zip(batch.tiles, lengths, strict=True)
    ]
    parts = {
        "vision": sum(c.vit + c.connector for c in costs),
        "prefill": sum(c.prefill for c in costs),
        "decode": sum(c.decode for c in costs),
    }
    parts["total"] = parts["vision"] + parts["prefill"] + (NEW_TOKENS - 1) * parts["decode"]
    return parts


def _now() -> float:
    """Seconds, once the accelerator has done what it was given."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()
