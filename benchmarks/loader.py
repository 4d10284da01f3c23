"""How long a training step waits for its pictures, by the number of workers that read and cut them.

    OMP_NUM_THREADS=1 python benchmarks/loader.py --step 1

Rendered pages pass the project's own corpus, tiling, tokenisation and loop, by default as pictures of five tiles of 448
pixels. The step computes nothing: it sleeps for ``--step`` seconds, as a process does that waits for its accelerator.
``collated`` has its batch before training starts. The ways of feeding take ``--steps`` steps in turn, ``--rounds``
times; ratios are to ``collated`` in the same round, the median over the rounds with the least and the greatest.
Workers share the machine's cores with whatever else runs there: the pictures that a core makes ready in a second of its
time, which are printed too, do not depend on that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn
from tqdm import tqdm

from fcotvl.compress.checkpoints import load_processor
from fcotvl.compress.processor import FcotvlImageProcessor, FcotvlProcessor
from fcotvl.core.config import OptimParams
from fcotvl.core.geometry import tokens_per_tile
from fcotvl.core.prompts import Prompts
from fcotvl.core.shards import write_shards
from fcotvl.data.lazy_records import Request
from fcotvl.data.sources.rendered import read
from fcotvl.train.dataset import Corpus
from fcotvl.train.distill import DistillTask
from fcotvl.train.loop import train
from fcotvl.train.packing import Batch, BatchBuilder
from fcotvl.train.state import Log

TEACHER = Path(__file__).parents[1] / "teachers/tiny"
"""Its tokenizer is used."""
WAYS: dict[str, int | None] = {"collated": None, "0 workers": 0, "1 worker": 1, "2 workers": 2}
WARM_UP = 3
"""Steps that do not count: workers start, and fill their queue."""


class Sleep(nn.Module):
    """An objective whose step takes its time without the CPU."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """A loss of 1 an item."""
        time.sleep(self.seconds)
        weight = torch.ones(len(batch))
        return {"loss": weight * self.one, "weight": weight}


@dataclass(frozen=True)
class Timed(DistillTask):
    """The reading of distillation, without its losses."""

    objective: Any
    collated: bool = False
    ends: list[float] = field(default_factory=list)
    _made: list[Batch] = field(default_factory=list)

    def collate(self, items: Sequence[Any]) -> Batch:
        """The pictures; for ``collated``, those of the first step again."""
        if not self.collated:
            return super().collate(items)
        if not self._made:
            self._made.append(super().collate(items))
        return self._made[0]

    def record(self, step: int, items: Sequence[Any], sums: Mapping[str, list[float]], lr: float) -> Log:  # noqa: ARG002
        """Nothing but the step."""
        return [{"step": step, "loss": 1.0}]

    def on_step_end(self, step: int) -> None:  # noqa: ARG002
        """The time."""
        self.ends.append(time.perf_counter())


def write_corpus(folder: Path, count: int, size: int) -> Path:
    """Pages of ``size`` pixels square."""
    lazy = islice(read(Request(raw=folder, split="align", seed=0), size=size), count)
    records = (one.load(split="align", licence="CC0-1.0", max_pixels=10**8)[0] for one in lazy)
    write_shards(folder, records, shard_size=64)
    return folder


def seconds(way: str, builder: BatchBuilder, args: argparse.Namespace) -> float:
    """A step's, by the median."""
    workers = WAYS[way]
    task = Timed(Sleep(args.step), builder, args.pictures, 0, collated=workers is None)
    optim = OptimParams(
        steps=WARM_UP + args.steps, batch_size=args.pictures, lr=1e-4, micro_batch_tokens=10**9, workers=workers or 0
    )
    with tempfile.TemporaryDirectory() as folder:
        train(task, optim, seed=0, folder=Path(folder))
    return statistics.median(after - before for before, after in pairwise(task.ends[WARM_UP - 1 :]))


def pictures_a_second(builder: BatchBuilder, args: argparse.Namespace) -> float:
    """Pictures that this process makes ready in a second of CPU time."""
    task = Timed(Sleep(0), builder, args.pictures, 0)
    steps = task.sample_items(range(1, 1 + args.steps), [])
    task.collate(steps[0])  # reads the row groups
    start = time.process_time()
    for items in steps:
        task.collate(items)
    return len(steps) * args.pictures / (time.process_time() - start)


def main() -> None:
    """Measure all ways in turn and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", type=float, default=1.0, help="seconds that a step takes by itself")
    parser.add_argument("--pictures", type=int, default=16, help="of a step")
    parser.add_argument("--size", type=int, default=1344, help="pixels of a picture's side")
    parser.add_argument("--tile", type=int, default=448, help="pixels of a tile's side")
    parser.add_argument("--max-tiles", type=int, default=6, help="of a picture, thumbnail not counted")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        corpus = Corpus(write_corpus(Path(name), 2 * args.pictures, args.size))
        images = FcotvlImageProcessor(tile_size=args.tile, max_tiles=args.max_tiles)
        processor = FcotvlProcessor(images, load_processor(TEACHER).tokenizer, tokens_per_tile(args.tile))
        builder = BatchBuilder(corpus, processor, Prompts(), args.max_tiles)
        rate = pictures_a_second(builder, args)
        rounds = [{way: seconds(way, builder, args) for way in WAYS} for _ in tqdm(range(args.rounds), disable=None)]
    rows = []
    for way in WAYS:
        ratios = [one[way] / one["collated"] for one in rounds]
        waits = statistics.median(one[way] - one["collated"] for one in rounds)
        step = statistics.median(one[way] for one in rounds)
        rows.append([way, step, waits, statistics.median(ratios), f"{min(ratios):.2f} to {max(ratios):.2f}"])
    print(tabulate(rows, ["", "s a step", "waits s", "ratio", "range"], tablefmt="github", floatfmt=".3g"))
    print(f"\nA core makes {rate:.1f} pictures ready in a second: {args.pictures / rate:.2f} s for a step's.")
    if args.output is not None:
        args.output.write_text(
            json.dumps({**{k: str(v) for k, v in vars(args).items()}, "rate": rate, "rounds": rounds}, indent=2)
        )


if __name__ == "__main__":
    main()
