"""Time and memory of merging checkpoints, compared with a plain soup of state dictionaries.

    python benchmarks/merge.py --checkpoints 4 --gigabytes 1 --output merge.json

The soup is what scripts for model soups do: load one state dictionary after the other, add it to the sum, save the
sum. Each side runs in a process of its own, in turn, ``--pairs`` times. Memory is what a process allocates at its peak,
above what it has before it merges; pages of the files, which the system can drop, are not counted. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tabulate import tabulate

from fcotvl.merge.average import average_files

SHARES = (0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625, 0.0625, 0.0625)
"""Sizes of a checkpoint's tensors: embeddings and head are half of it, as in InternVL2-1B."""
WIDTH = 1024


def write_checkpoints(folder: Path, count: int, gigabytes: float, dtype: torch.dtype) -> list[Path]:
    """Files of noise in ``folder``."""
    paths = [folder / f"{number}.safetensors" for number in range(count)]
    for seed, path in enumerate(paths):
        rng = torch.Generator().manual_seed(seed)
        rows = [int(share * gigabytes * 1e9 / dtype.itemsize / WIDTH) for share in SHARES]
        tensors = {f"{i}.weight": torch.randn(n, WIDTH, generator=rng).to(dtype) for i, n in enumerate(rows)}
        save_file(tensors, path)
    return paths


def soup(paths: Sequence[Path], weights: Sequence[float], output: Path) -> None:
    """The weighted sum of whole state dictionaries, in float32."""
    first, *others = paths
    loaded = load_file(first)
    dtypes = {name: tensor.dtype for name, tensor in loaded.items()}
    total = {name: tensor.float() * weights[0] for name, tensor in loaded.items()}
    for path, weight in zip(others, weights[1:], strict=True):
        for name, tensor in load_file(path).items():
            total[name] += tensor.float() * weight
    save_file({name: tensor.to(dtypes[name]) for name, tensor in total.items()}, output)


class Peak(threading.Thread):
    """Watches how much memory this process has allocated; what it has freed goes back to the system first."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        self.before = self.most = self.read()
        self._ended = threading.Event()
        self.start()

    def read(self) -> int:
        """Bytes that no file backs."""
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("RssAnon:")[2].split()[0]) * 1024

    def run(self) -> None:
        """Look every millisecond."""
        while not self._ended.wait(0.001):
            self.most = max(self.most, self.read())

    def end(self) -> int:
        """Stop looking; the most bytes above what the process had at the start."""
        self._ended.set()
        self.join()
        return self.most - self.before


def measure(side: str, paths: Sequence[Path], output: Path) -> dict[str, float]:
    """Seconds and peak bytes of one merge in this process."""
    weights = [1 / len(paths)] * len(paths)
    peak, start = Peak(), time.perf_counter()
    {"fcotvl": average_files, "soup": soup}[side](paths, weights, output)
    return {"seconds": time.perf_counter() - start, "bytes": peak.end()}


def main() -> None:
    """Measure both sides in turn, check that they agree, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=4)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of a checkpoint")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--side", help=argparse.SUPPRESS)  # in a process of its own
    parser.add_argument("--files", nargs="*", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        *paths, output = args.files
        print(json.dumps(measure(args.side, paths, output)))
        return
    found: dict[str, list[dict[str, float]]] = {"fcotvl": [], "soup": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_checkpoints(folder, args.checkpoints, args.gigabytes, getattr(torch, args.dtype))
        for _ in range(args.pairs):
            for side, runs in found.items():
                files = [*paths, folder / f"{side}.merged"]
                command = [sys.executable, __file__, "--side", side, "--files", *map(str, files)]
                runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        merged = [load_file(folder / f"{side}.merged") for side in found]
        differences = [float((merged[0][key] - merged[1][key]).abs().max()) for key in merged[0]]
    sides = {
        side: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for side, runs in found.items()
    }
    rows: list[list[Any]] = [[side, one["seconds"], one["bytes"] / 2**30] for side, one in sides.items()]
    ratio = {key: sides["soup"][key] / sides["fcotvl"][key] for key in ("seconds", "bytes")}
    rows.append(["ratio", ratio["seconds"], ratio["bytes"]])
    print(tabulate(rows, ["", "s", "peak GiB"], tablefmt="github", floatfmt=".3g"))
    print(f"\nLargest difference between the two: {max(differences):.3g}")
    if args.output is not None:
        figures = {"ratio": ratio, "difference": max(differences), "runs": found}
        args.output.write_text(json.dumps({**{k: str(v) for k, v in vars(args).items()}, **figures}, indent=2))


if __name__ == "__main__":
    main()
