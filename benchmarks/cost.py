"""Measured time of ViT, connector, prefill and decoding beside what the cost model predicts.

    python benchmarks/cost.py --layout internvl2-1b --tiles 4 --output cost.json

Random weights at true shapes. Every figure is a ratio to the teacher, the median over pairs that
take turns. All systems have the teacher's ViT, so each picture goes through it once. On a CPU time
is CPU time of this process, so that a busy machine does not change the ratio. ``kv`` is the cache
after prefill, ``peak`` the most memory that one picture with its answer takes beside the weights;
on a CPU it is left out where it does not rise above what the process holds already. ``--layers``
keeps that many layers of ViT and LLM where the whole model is too slow; the prediction is then made
for the same shortened model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import InternVLForConditionalGeneration

from fcotvl.evaluate.speed import Contender
from fcotvl.models.checkpoints import make_student
from fcotvl.models.config import visual_tokens
from fcotvl.models.cost import cost, parameters
from fcotvl.models.decoding import Decoder
from fcotvl.models.fastv import Prune, PrunedDecoder
from fcotvl.models.layouts import config as layout
from fcotvl.models.student import connect, encode_tiles

PARTS = ("connector", "prefill", "decode")
NEW_TOKENS = 8


def systems(name: str, layers: int | None, dtype: torch.dtype, device: str) -> list[Contender]:
    """The teacher with random weights, and students and FastV that share them."""
    config = layout(name)
    if layers is not None:
        config.vision_config.num_hidden_layers = layers
        config.text_config.num_hidden_layers = layers
        if hasattr(config.text_config, "layer_types"):
            config.text_config.layer_types = config.text_config.layer_types[:layers]
    teacher = InternVLForConditionalGeneration(config).to(device, dtype).eval()
    made = [Contender("teacher", teacher)]
    for ratio in (0.5, 0.75):
        student = make_student(teacher, compressor="cnn", ratio=ratio, share=True)
        made += [Contender(f"cnn {ratio}", student)]
        made += [Contender(f"fastv {ratio}", teacher, Prune("fastv", ratio, layer=2))]
    return made


def now(device: str) -> float:
    """Seconds: CPU time on a CPU, else wall-clock time once the device is done."""
    if device == "cpu":
        return time.process_time()
    torch.accelerator.synchronize()
    return time.perf_counter()


def memory(device: str, what: str) -> int:
    """Bytes in use ``now``, from where the peak is counted anew, or at the ``peak`` since then.

    On a CPU they are those of this process, as Linux counts them; elsewhere nobody does.
    """
    if device != "cpu":
        if what == "peak":
            return torch.accelerator.max_memory_allocated()
        torch.accelerator.reset_peak_memory_stats()
        return torch.accelerator.memory_allocated()
    if not Path("/proc/self/clear_refs").exists():
        return 0
    if what == "now":
        Path("/proc/self/clear_refs").write_text("5")
    field = {"now": "VmRSS", "peak": "VmHWM"}[what]
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if field in line))


@torch.inference_mode()
def look(teacher: Contender, tiles: int, device: str) -> tuple[torch.Tensor, float]:
    """What the ViT makes of one picture of noise, and the seconds that it takes."""
    model = teacher.model
    size = model.config.vision_config.image_size[0]
    pixels = torch.rand(tiles, 3, size, size, device=device, dtype=model.dtype)
    start = now(device)
    seen = encode_tiles(model.model, pixels)
    return seen, now(device) - start


@torch.inference_mode()
def measure(system: Contender, seen: torch.Tensor, text: int, device: str) -> dict[str, float]:
    """Seconds of each part, and bytes of the cache after prefill and of all at the peak."""
    config = system.model.config
    visual = len(seen) * visual_tokens(config)
    ids = torch.full((1, visual + text), config.image_token_id, device=device)
    ids[0, :4] = ids[0, visual + 4 :] = 0
    mask = torch.ones_like(ids)
    prune = system.prune
    decoder = PrunedDecoder(system.model, prune, ["one"]) if prune else Decoder(system.model)
    idle = memory(device, "now")
    times = [now(device)]
    features = connect(system.model.model, seen)
    times.append(now(device))
    logits = decoder.prefill(ids, mask, features)
    times.append(now(device))
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in decoder.cache.layers)
    for _ in range(NEW_TOKENS):
        logits = decoder.step(logits.argmax(dim=-1))
    times.append(now(device))
    spent = [after - before for before, after in pairwise(times)]
    most = memory(device, "peak") - idle
    return dict(zip((*PARTS, "kv", "peak"), [*spent, held, most], strict=True))


def table(
    made: list[Contender], tiles: int, text: int, pairs: int, device: str
) -> list[dict[str, Any]]:
    """One row per system and part: measured ratio, its range, and the predicted one."""
    teacher, turns, looks = made[0], [], []
    for _ in tqdm(range(pairs + 1), desc="turns", disable=None):
        seen, seconds = look(teacher, tiles, device)
        turns.append({system.name: measure(system, seen, text, device) for system in made})
        looks.append(seconds)
    turns, looks = turns[1:], looks[1:]
    width = torch.finfo(teacher.model.dtype).bits // 8
    base = cost(teacher.model.config, tiles=tiles, text_tokens=text, bytes_per_number=width)
    vit = {"measured": 1.0, "low": 1.0, "high": 1.0, "predicted": 1.0}
    rows: list[dict[str, Any]] = [
        {"system": "all", "part": "vit", **vit, "teacher": statistics.median(looks)}
    ]
    for system in made[1:]:
        predicted = cost(
            system.model.config,
            tiles=tiles,
            text_tokens=text,
            prune=system.prune,
            bytes_per_number=width,
        )
        for part in (*PARTS, "kv", "peak"):
            if not all(turn[teacher.name][part] for turn in turns):
                continue  # a peak too small to be seen
            ratios = [turn[system.name][part] / turn[teacher.name][part] for turn in turns]
            field = "kv_bytes" if part == "kv" else part
            wanted = getattr(predicted, field) / getattr(base, field) if part != "peak" else None
            rows.append(
                {
                    "system": system.name,
                    "part": part,
                    "measured": statistics.median(ratios),
                    "low": min(ratios),
                    "high": max(ratios),
                    "predicted": wanted,
                    "teacher": statistics.median(turn[teacher.name][part] for turn in turns),
                }
            )
    return rows


def absolute(row: dict[str, Any]) -> str:
    """The teacher's own figure, which holds for this machine alone."""
    if row["part"] in ("kv", "peak"):
        return f"{row['teacher'] / 2**20:.0f} MiB"
    if row["part"] == "decode":
        return f"{row['teacher'] / NEW_TOKENS * 1000:.0f} ms a token"
    return f"{row['teacher']:.2f} s"


def main() -> None:
    """Measure, print a Markdown table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layout", default="internvl2-1b")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--tiles", type=int, default=4)
    parser.add_argument("--text", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.manual_seed(0)
    made = systems(given.layout, given.layers, getattr(torch, given.dtype), given.device)
    rows = table(made, given.tiles, given.text, given.pairs, given.device)
    print("| system | part | measured | range | predicted | teacher |\n|---|---|---|---|---|---|")
    for row in rows:
        spread = f"{row['low']:.2f} to {row['high']:.2f}"
        cells = [row["system"], row["part"], f"{row['measured']:.3f}", spread]
        cells += ["" if row["predicted"] is None else f"{row['predicted']:.3f}", absolute(row)]
        print("| " + " | ".join(cells) + " |")
    if given.output is not None:
        head = {key: str(value) for key, value in vars(given).items() if key != "output"}
        counts = parameters(made[0].model.config)
        given.output.write_text(json.dumps({**head, "parameters": counts, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
