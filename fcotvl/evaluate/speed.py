"""Wall-clock time of each part of a system as a ratio to the teacher, measured in one run."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from fcotvl.compress.checkpoints import processor_for
from fcotvl.compress.config import full_tokens
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.compress.student import encode_tiles, project_visual_tokens
from fcotvl.core.records import Record
from fcotvl.evaluate.cost import cost
from fcotvl.inference.decoding import Ids, Mask
from fcotvl.inference.early_pruning import EarlyPruning
from fcotvl.inference.pruned_decoding import System

PARTS = ("vision", "prefill", "decode", "total")
"""ViT and connector; the LLM's prefill; one further token; a reply of ``NEW_TOKENS``."""
NEW_TOKENS = 16


def measure_speed(
    systems: Mapping[str, System],
    processor: FcotvlProcessor,
    records: Sequence[Record],
    prompt: Callable[[Record], str],
    *,
    max_tiles: int,
    pairs: int,
) -> pd.DataFrame:
    """Measure the time of each part as a ratio to the first system's in the same round.

    Args:
        systems: by name, the teacher first.
        processor: the teacher's.
        records: one batch of images.
        prompt: makes the prompt about an image.
        max_tiles: largest number of tiles per image, thumbnail not counted.
        pairs: rounds that count, in each of which all systems take their turn; one more round comes first, to warm up.

    Returns:
        system, part, time (median ratio; 0.5 is twice as fast), low, high (minimum and maximum: of 7 rounds they
        enclose the true median with 98 % confidence), flops (ratio that the cost model predicts), pairs, removed (share
        of the teacher's visual tokens that the prompts lack; pruning comes later), tiles (of all images).
    """
    batches = {name: _prepare(system, processor, records, prompt, max_tiles) for name, system in systems.items()}
    rounds = [
        {name: _time(system, batches[name]) for name, system in systems.items()}
        for _ in tqdm(range(pairs + 1), desc="speed", disable=None)
    ]
    flops = {name: _flops(system, batches[name]) for name, system in systems.items()}
    visual = {
        name: int((batches[name].input_ids == system.model.config.image_token_id).sum())
        for name, system in systems.items()
    }
    teacher, *others = systems
    rows = []
    for name in others:
        for part in PARTS:
            ratios = pd.Series([times[name][part] / times[teacher][part] for times in rounds[1:]])
            rows.append(
                {
                    "system": name,
                    "part": part,
                    "time": ratios.median(),
                    "low": ratios.min(),
                    "high": ratios.max(),
                    "flops": flops[name][part] / flops[teacher][part],
                    "pairs": pairs,
                    "removed": 1 - visual[name] / visual[teacher],
                    "tiles": len(batches[name].pixels),
                }
            )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Batch:
    """Inputs of one system: the same images and words, with its own number of visual tokens."""

    pixels: Float[Tensor, "tile 3 h w"]
    input_ids: Ids
    attention_mask: Mask
    names: list[str]
    tiles: Sequence[int | list[int]]
    """Tiles of each image, as the processor's ``tiles`` gives them."""
    counts: list[int]
    """Number of tiles of each image."""
    tile_tokens: list[int] | None
    """Visual tokens of each tile, where the processor chooses them."""


def _prepare(
    system: System,
    processor: FcotvlProcessor,
    records: Sequence[Record],
    prompt: Callable[[Record], str],
    max_tiles: int,
) -> Batch:
    model = system.model
    adapted = processor_for(processor, model.config)
    vision = adapted.image_processor([record.decode() for record in records], max_tiles=max_tiles, return_tensors="pt")
    tiles, counts = adapted.tiles(vision), list(vision["num_tiles"])
    read = tiles
    if isinstance(system.pruning, EarlyPruning):
        read = [[system.pruning.kept(count * full_tokens(model.config))] for count in counts]
    chats = adapted.expand([adapted.render(prompt(r)) for r in records], read)
    tokens = adapted.tokenize(chats).to(model.device)
    return Batch(
        vision["pixel_values"].to(model.device, model.dtype),
        tokens["input_ids"],
        tokens["attention_mask"],
        [record.id for record in records],
        tiles,
        counts,
        vision["tile_tokens"].tolist() if "tile_tokens" in vision else None,
    )


def _time(system: System, batch: Batch) -> dict[str, float]:
    """Seconds of each part for one batch."""
    model, decoder = system.model.model, system.decoder(batch.names)
    early = system.pruning if isinstance(system.pruning, EarlyPruning) else None
    with torch.inference_mode():
        start = _now()
        tokens = early.encode(model, batch.pixels) if early else encode_tiles(model, batch.pixels)
        features = project_visual_tokens(model, tokens, batch.tile_tokens)
        if early:
            tiles = iter(features)
            features = [tile for count in batch.counts for tile in early.choose(list(islice(tiles, count)))]
        encoded = _now()
        logits = decoder.prefill(batch.input_ids, batch.attention_mask, features)
        prefilled = _now()
        for _ in range(NEW_TOKENS - 1):
            logits = decoder.step(logits.argmax(dim=-1))
        end = _now()
    return {
        "vision": encoded - start,
        "prefill": prefilled - encoded,
        "decode": (end - prefilled) / (NEW_TOKENS - 1),
        "total": end - start,
    }


def _flops(system: System, batch: Batch) -> dict[str, int]:
    """FLOPs that the cost model predicts for the same parts."""
    config = system.model.config
    is_text = batch.attention_mask.bool() & (batch.input_ids != config.image_token_id)
    lengths = is_text.sum(dim=-1).tolist()
    costs = [
        cost(config, tiles=tiles, text_tokens=length, pruning=system.pruning)
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
    """Seconds on the clock, once the accelerator has finished its work."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()
