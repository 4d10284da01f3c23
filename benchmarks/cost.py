"""Measured time of ViT, connector, prefill and decoding beside what the cost model predicts.

    python benchmarks/cost.py --architecture internvl2-1b --tiles 4 --output cost.json

Random weights at true shapes. Every figure is a ratio to the teacher, the median over rounds in which all systems take
their turn. All systems share the teacher's ViT, so each picture passes through it once. ``--pictures`` are answered
together, as in a batch. On a CPU, time is CPU time of this process, so that a busy machine matters little to the ratio.
``kv`` is the cache after prefill, ``peak`` the most memory that the pictures with their replies take beside the
weights; on a CPU it is left out where it does not rise above what the process already holds. ``--extrapolate`` is for
models that are too large or too slow: models of one and of two layers of ViT and LLM are measured, and each further
layer is taken to add what the second did (after FastV's cut, what a layer with the kept tokens adds). The prediction is
still that of the whole model.
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
from fcotvl.inference import pruning
from fcotvl.inference.pruned_decoding import System
from fcotvl.internvl.architectures import teacher_config

PARTS = ("connector", "prefill", "decode")
NEW_TOKENS = 8
CUT = 2
"""FastV's K: the first layer without the removed tokens."""
RATIOS = (0.25, 0.5, 0.75, 0.875)
"""Shares of visual tokens that students remove."""
PRUNED = (0.5, 0.75)
"""Those that FastV removes."""


def build_systems(
    architecture: str, dtype: torch.dtype, device: str, *, layers: int | None = None, cut: int = CUT
) -> dict[str, System]:
    """Build the teacher with random weights, and students and FastV that share them.

    Args:
        architecture: name of the architecture.
        dtype: data type of the weights.
        device: where the weights are.
        layers: number of layers of ViT and LLM; by default all.
        cut: FastV's K; FastV is left out of models without such a layer.
    """
    config = teacher_config(architecture)
    if layers is not None:
        config.vision_config.num_hidden_layers = layers
        shorten(config, layers)
    teacher = InternVLForConditionalGeneration(config).to(device, dtype).eval()
    systems = {"teacher": System(teacher)}
    for ratio in RATIOS:
        student = make_student(teacher, compressor="cnn", ratio=ratio, share_frozen=True)
        systems[f"cnn {ratio}"] = System(student)
    for ratio in PRUNED if cut < config.text_config.num_hidden_layers else ():
        systems[f"fastv {ratio}"] = pruning.build("fastv", teacher, ratio=ratio, layer=cut)
    return systems


def shorten(config: InternVLConfig, layers: int) -> None:
    """Set the number of LLM layers."""
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
    """Bytes in use ``now``, which also resets the peak, or at the ``peak`` since then.

    On a CPU they are those of this process as Linux counts them, or 0 on other systems.
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
def encode(teacher: System, tiles: int, device: str) -> tuple[torch.Tensor, float]:
    """Run the ViT on tiles of noise; return its output and the seconds it took."""
    model = teacher.model
    size = model.config.vision_config.image_size[0]
    pixels = torch.rand(tiles, 3, size, size, device=device, dtype=model.dtype)
    start = now(device)
    tokens = encode_tiles(model.model, pixels)
    return tokens, now(device) - start


@torch.inference_mode()
def measure(system: System, tokens: torch.Tensor, args: argparse.Namespace) -> dict[str, float]:
    """Measure seconds of each part, bytes of the cache after prefill, and peak memory in bytes."""
    config, device = system.model.config, args.device
    visual = args.tiles * visual_tokens(config)
    ids = torch.full((args.pictures, visual + args.text), config.image_token_id, device=device)
    ids[:, :4] = ids[:, visual + 4 :] = 0
    mask = torch.ones_like(ids)
    decoder = system.decoder([str(number) for number in range(args.pictures)])
    idle = memory(device, "now")
    times = [now(device)]
    features = project_visual_tokens(system.model.model, tokens)
    times.append(now(device))
    logits = decoder.prefill(ids, mask, features)
    times.append(now(device))
    cache_bytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in decoder.cache.layers)
    for _ in range(NEW_TOKENS):
        logits = decoder.step(logits.argmax(dim=-1))
    times.append(now(device))
    spent = [after - before for before, after in pairwise(times)]
    peak = memory(device, "peak") - idle
    return dict(zip((*PARTS, "kv", "peak"), [*spent, cache_bytes, peak], strict=True))


Round = dict[str, dict[str, float]]
"""Figures of ``measure`` by system."""


def measure_rounds(systems: dict[str, System], args: argparse.Namespace) -> tuple[list[Round], list[float]]:
    """Measure all systems in turn, ``--pairs`` times, with the seconds of the ViT each time."""
    rounds, vit_seconds = [], []
    for _ in tqdm(range(args.pairs + 1), desc="rounds", disable=None):
        tokens, seconds = encode(systems["teacher"], args.pictures * args.tiles, args.device)
        rounds.append({name: measure(system, tokens, args) for name, system in systems.items()})
        vit_seconds.append(seconds)
    return rounds[1:], vit_seconds[1:]


def extrapolate(one: Round, two: Round, layers: int) -> Round:
    """Extrapolate the figures of ``layers`` layers from those of one and of two, except peaks.

    The first two layers are as measured, or the teacher's before FastV's cut; each further one adds what the second
    did.
    """
    whole: Round = {}
    for name, figures in two.items():
        first = one.get(name, one["teacher"])
        both = figures if name in one else two["teacher"]
        whole[name] = {
            part: both[part] + (layers - 2) * (figures[part] - first[part]) for part in ("prefill", "decode", "kv")
        }
        whole[name] |= {"connector": figures["connector"], "peak": 0}
    return whole


def table(systems: dict[str, System], rounds: list[Round], tiles: int, text: int, layers: int) -> list[dict[str, Any]]:
    """Return one row per system and part: measured ratio, its range, and the predicted one."""
    width = torch.finfo(systems["teacher"].model.dtype).bits // 8

    def predict(system: System) -> Cost:
        config = deepcopy(system.model.config)
        shorten(config, layers)
        moved = replace(system.pruning, layer=CUT) if system.pruning else None
        return cost(config, tiles=tiles, text_tokens=text, pruning=moved, bytes_per_number=width)

    base, rows = predict(systems["teacher"]), []
    for name, system in list(systems.items())[1:]:
        predicted = predict(system)
        for part in (*PARTS, "kv", "peak"):
            teacher = [figures["teacher"][part] for figures in rounds]
            if not all(teacher):
                continue  # a peak too small to be measured
            ratios = [f[name][part] / t for f, t in zip(rounds, teacher, strict=True)]
            field = "kv_bytes" if part == "kv" else part
            expected = getattr(predicted, field) / getattr(base, field) if part != "peak" else None
            rows.append(
                {
                    "system": name,
                    "part": part,
                    "measured": statistics.median(ratios),
                    "low": min(ratios),
                    "high": max(ratios),
                    "predicted": expected,
                    "teacher": statistics.median(teacher),
                }
            )
    return rows


def absolute(row: dict[str, Any]) -> str:
    """Format the teacher's own figure, which holds for this machine only."""
    if row["part"] in ("kv", "peak"):
        return f"{row['teacher'] / 2**20:.0f} MiB"
    if row["part"] == "decode":
        return f"{row['teacher'] / NEW_TOKENS * 1000:.3g} ms a token"
    return f"{row['teacher']:.3g} s"


def main() -> None:
    """Measure, print a Markdown table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="internvl2-1b")
    parser.add_argument("--extrapolate", action="store_true", help="from one and two layers")
    parser.add_argument("--tiles", type=int, default=4)
    parser.add_argument("--pictures", type=int, default=1, help="answered together, one question each")
    parser.add_argument("--text", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    dtype, layers = (getattr(torch, args.dtype), teacher_config(args.architecture).text_config.num_hidden_layers)
    if args.extrapolate:
        one, vit_of_one = measure_rounds(build_systems(args.architecture, dtype, args.device, layers=1, cut=1), args)
        systems = build_systems(args.architecture, dtype, args.device, layers=2, cut=1)
        two, vit_of_two = measure_rounds(systems, args)
        rounds = [extrapolate(*pair, layers) for pair in zip(one, two, strict=True)]
        further = teacher_config(args.architecture).vision_config.num_hidden_layers - 2
        vit_seconds = [both + further * (both - first) for first, both in zip(vit_of_one, vit_of_two, strict=True)]
        depth = f"{further + 2} layers of ViT and {layers} of LLM"
        print(f"Extrapolated to {depth} from measured models of one and of two.\n")
    else:
        systems = build_systems(args.architecture, dtype, args.device)
        rounds, vit_seconds = measure_rounds(systems, args)
    same = {"measured": 1.0, "low": 1.0, "high": 1.0, "predicted": 1.0}
    rows: list[dict[str, Any]] = [{"system": "all", "part": "vit", **same, "teacher": statistics.median(vit_seconds)}]
    rows += table(systems, rounds, args.tiles, args.text, layers)
    print("| system | part | measured | range | predicted | teacher |\n|---|---|---|---|---|---|")
    for row in rows:
        spread = f"{row['low']:.2f} to {row['high']:.2f}"
        cells = [row["system"], row["part"], f"{row['measured']:.3f}", spread]
        cells += ["" if row["predicted"] is None else f"{row['predicted']:.3f}", absolute(row)]
        print("| " + " | ".join(cells) + " |")
    if args.output is not None:
        head = {key: str(value) for key, value in vars(args).items() if key != "output"}
        counts = parameters(teacher_config(args.architecture))
        args.output.write_text(json.dumps({**head, "parameters": counts, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
