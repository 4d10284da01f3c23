"""Measured time of ViT, connector, prefill and decoding beside what the cost model predicts.

    python benchmarks/cost.py --layout internvl2-1b --tiles 4 --output cost.json

Random weights at true shapes. Every figure is a ratio to the teacher, the median over pairs that
take turns. All systems have the teacher's ViT, so each picture goes through it once. On a CPU time
is CPU time of this process, so that a busy machine does not change the ratio. ``kv`` is the cache
after prefill, ``peak`` the most memory that one picture with its answer takes beside the weights;
on a CPU it is left out where it does not rise above what the process holds already.
``--extrapolate``, where the whole model is too large or too slow: models of one and of two layers
are measured, and what the second layer adds stands for each further one (behind FastV's cut, what a
layer with the kept tokens adds). The prediction is that of the whole model all the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import InternVLConfig, InternVLForConditionalGeneration

from fcotvl.compress.checkpoints import make_student
from fcotvl.compress.config import visual_tokens
from fcotvl.compress.student import encode_tiles, project_visual_tokens
from fcotvl.evaluate.cost import Cost, cost, parameters
from fcotvl.evaluate.speed import Contender
from fcotvl.inference.decoding import Decoder
from fcotvl.inference.fastv import Prune, PrunedDecoder
from fcotvl.internvl.architectures import teacher_config

PARTS = ("connector", "prefill", "decode")
NEW_TOKENS = 8
CUT = 2
"""FastV's K."""


def systems(
    name: str, dtype: torch.dtype, device: str, *, layers: int | None = None, cut: int = CUT
) -> list[Contender]:
    """The teacher with random weights, and students and FastV that share them.

    Args:
        name: of the layout.
        dtype: of the weights.
        device: where they are.
        layers: of ViT and LLM, if not all.
        cut: layers before which FastV drops nothing; where there are no more, it is left out.
    """
    config = teacher_config(name)
    if layers is not None:
        config.vision_config.num_hidden_layers = layers
        _shorten(config, layers)
    teacher = InternVLForConditionalGeneration(config).to(device, dtype).eval()
    made = [Contender("teacher", teacher)]
    for ratio in (0.5, 0.75):
        student = make_student(teacher, compressor="cnn", ratio=ratio, share_frozen=True)
        made += [Contender(f"cnn {ratio}", student)]
        if cut < config.text_config.num_hidden_layers:
            made += [Contender(f"fastv {ratio}", teacher, Prune("fastv", ratio, layer=cut))]
    return made


def _shorten(config: InternVLConfig, layers: int) -> None:
    """Give the LLM so many layers."""
    config.text_config.num_hidden_layers = layers
    if hasattr(config.text_config, "layer_types"):
        kinds = config.text_config.layer_types
        config.text_config.layer_types = [*kinds, *kinds[:1] * layers][:layers]


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
    features = project_visual_tokens(system.model.model, seen)
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


Turn = dict[str, dict[str, float]]
"""What ``measure`` found, by system."""


def take_turns(
    made: list[Contender], tiles: int, text: int, pairs: int, device: str
) -> tuple[list[Turn], list[float]]:
    """All systems in turn, ``pairs`` times; and the seconds of the ViT each time."""
    turns, looks = [], []
    for _ in tqdm(range(pairs + 1), desc="turns", disable=None):
        seen, seconds = look(made[0], tiles, device)
        turns.append({system.name: measure(system, seen, text, device) for system in made})
        looks.append(seconds)
    return turns[1:], looks[1:]


def extrapolate(one: Turn, two: Turn, layers: int) -> Turn:
    """The figures of ``layers`` layers, from those of one and of two; peaks are not to be had.

    Two layers are measured as they are, or are the teacher's before FastV's cut; each further one
    adds what the second did.
    """
    whole: Turn = {}
    for name, figures in two.items():
        first = one.get(name, one["teacher"])
        both = figures if name in one else two["teacher"]
        whole[name] = {
            part: both[part] + (layers - 2) * (figures[part] - first[part])
            for part in ("prefill", "decode", "kv")
        }
        whole[name] |= {"connector": figures["connector"], "peak": 0}
    return whole


def table(
    made: list[Contender], turns: list[Turn], tiles: int, text: int, layers: int
) -> list[dict[str, Any]]:
    """One row per system and part: measured ratio, its range, and the predicted one."""
    teacher = made[0]
    width = torch.finfo(teacher.model.dtype).bits // 8

    def predict(system: Contender) -> Cost:
        config = deepcopy(system.model.config)
        _shorten(config, layers)
        prune = replace(system.prune, layer=CUT) if system.prune else None
        return cost(config, tiles=tiles, text_tokens=text, prune=prune, bytes_per_number=width)

    base, rows = predict(teacher), []
    for system in made[1:]:
        predicted = predict(system)
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
    parser.add_argument("--extrapolate", action="store_true", help="from one and two layers")
    parser.add_argument("--tiles", type=int, default=4)
    parser.add_argument("--text", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.manual_seed(0)
    dtype, layers = (
        getattr(torch, given.dtype),
        teacher_config(given.layout).text_config.num_hidden_layers,
    )
    run = (given.tiles, given.text, given.pairs, given.device)
    if given.extrapolate:
        one = take_turns(systems(given.layout, dtype, given.device, layers=1, cut=1), *run)[0]
        made = systems(given.layout, dtype, given.device, layers=2, cut=1)
        two = take_turns(made, *run)[0]
        turns = [extrapolate(*pair, layers) for pair in zip(one, two, strict=True)]
        print(f"Extrapolated to {layers} layers from measured models of one and of two.\n")
        rows = []
    else:
        made = systems(given.layout, dtype, given.device)
        turns, looks = take_turns(made, *run)
        same = {"measured": 1.0, "low": 1.0, "high": 1.0, "predicted": 1.0}
        rows = [{"system": "all", "part": "vit", **same, "teacher": statistics.median(looks)}]
    rows += table(made, turns, given.tiles, given.text, layers)
    print("| system | part | measured | range | predicted | teacher |\n|---|---|---|---|---|---|")
    for row in rows:
        spread = f"{row['low']:.2f} to {row['high']:.2f}"
        cells = [row["system"], row["part"], f"{row['measured']:.3f}", spread]
        cells += ["" if row["predicted"] is None else f"{row['predicted']:.3f}", absolute(row)]
        print("| " + " | ".join(cells) + " |")
    if given.output is not None:
        head = {key: str(value) for key, value in vars(given).items() if key != "output"}
        counts = parameters(teacher_config(given.layout))
        given.output.write_text(json.dumps({**head, "parameters": counts, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
