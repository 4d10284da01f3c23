"""``make soak``: attack every stage and every reader for half an hour, and count what breaks.

Stages are killed, run in pairs and starved of disk space, and must leave no half-written output and reach the same
bytes when they are run again. Readers and settings get mutated inputs, and must refuse each in one line or account for
every record. What is attacked with what follows from the seed alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from fcotvl.stages import rscot
from fcotvl.train import loop
from tests.soak import mutations, params
from tests.soak.chain import Chain, Tally, Task
from tests.soak.forks import PATIENCE, Child
from tests.support.imports import ROOT

BATCH = 100
"""Inputs that one child reads."""
DAMAGE = ("half-written output", "differing artifact", "left behind", "traceback", "error", "hang")

Case = Callable[[random.Random, Path], Any]


@dataclass(frozen=True)
class Size:
    """How much is attacked."""

    last: str | None
    """The last stage of the chain (none: all of it)."""
    inputs: int
    pairs: int
    times: int
    """Full disks, kills at a byte and kills at two moments, of each stage."""
    kills: int | None
    """Kills before a write, of each stage (none: before each write)."""


FULL = Size(last=None, inputs=24_000, pairs=16, times=4, kills=None)
SHORT = Size(last="distill", inputs=300, pairs=1, times=1, kills=3)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the attacks and print their counts; 1 if anything broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few of each: what `make test` runs")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--minutes", type=float, default=40, help="after which no attack is begun (default: 40)")
    options = parser.parse_args(argv)
    start, size, rng = time.monotonic(), SHORT if options.short else FULL, random.Random(options.seed)
    _prepare()
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        (folder / "chain").mkdir()
        chain = Chain(folder / "chain", size.last)
        kills = [*chain.kills_before_writes(rng, size.kills)]
        rng.shuffle(kills)  # whatever the time is enough for is a sample of all
        tasks: list[Task] = [
            *_inputs(options.seed, size.inputs, folder),
            *chain.pairs(size.pairs),
            *chain.full_disks(rng, size.times),
            *chain.kills_within_writes(rng, size.times),
            *chain.kills_at_moments(rng, size.times),
            *kills,
        ]
        print(f"{len(tasks)} attacks on {len(chain.jobs)} stages and {len(_cases())} kinds of inputs", flush=True)
        tally = _share_out(tasks, options.jobs, start + 60 * options.minutes, folder)
    _print(tally, time.monotonic() - start)
    return 1 if tally.broken else 0


def _share_out(tasks: Sequence[Task], jobs: int, end: float, folder: Path) -> Tally:
    """Let ``jobs`` processes do the tasks in turn, and add up their counts."""

    def work(number: int) -> None:
        tally = Tally()
        for done, task in enumerate(tasks[number::jobs]):
            if time.monotonic() > end:
                tally.tried["left out for want of time"] = len(tasks[number::jobs]) - done
                break
            task(tally)
            if number == 0 and done % 100 == 99:
                print(f"{done * jobs} attacks, {len(tally.broken)} broken here so far", flush=True)
        (folder / f"{number}.json").write_text(json.dumps([tally.tried, tally.broken]), encoding="utf-8")

    processes = [get_context("fork").Process(target=work, args=[number]) for number in range(jobs)]
    for process in processes:
        process.start()
    total = Tally()
    for number, process in enumerate(processes):
        process.join()
        tried, broken = json.loads((folder / f"{number}.json").read_text(encoding="utf-8"))
        total.tried.update(tried)
        total.broken += map(tuple, broken)
    return total


def _prepare() -> None:
    """Import what stages import, once, on one thread: a thread pool does not survive a fork."""
    torch.set_num_threads(1)
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    sys.dont_write_bytecode = True
    for path in sorted((ROOT / "fcotvl/stages").glob("[!_]*.py")):
        import_module(f"fcotvl.stages.{path.stem}")
    loop.SAVE_SECONDS = 0.0  # a save after each step
    rscot.window_size = lambda *_: 4  # and after a few questions


def _cases() -> dict[str, Case]:
    return {"params": params.mutated, **mutations.CASES}


def _inputs(seed: int, count: int, folder: Path) -> Iterator[Task]:
    """Give each case its share of ``count`` inputs, in batches."""
    cases = _cases()
    share = -(-count // len(cases))
    for name in cases:
        for first in range(0, share, BATCH):
            numbers = range(first, min(first + BATCH, share))
            yield partial(_read, name, numbers, seed, folder)


def _read(name: str, numbers: range, seed: int, folder: Path, tally: Tally) -> None:
    while numbers:  # one that hangs ends a child
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as place:
            numbers = range(_batch(name, numbers, seed, Path(place), tally), numbers.stop)


def _batch(name: str, numbers: range, seed: int, folder: Path, tally: Tally) -> int:
    """Read some inputs in a child; return the number of the first that is still to be read."""

    case = _cases()[name]

    def work() -> int:
        logging.disable()
        for number in numbers:
            place = folder / f"{number}"
            place.mkdir()
            try:
                case(random.Random(f"{seed}-{name}-{number}"), place)
            except Exception as error:
                print(f"broken {number} {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
            else:
                print(f"fine {number}", flush=True)
            shutil.rmtree(place, ignore_errors=True)
        return 0

    child, done = Child(work), numbers.start
    for line in child.lines():
        state, _, rest = line.partition(" ")
        if state in ("fine", "broken"):
            done += 1
            tally.tried[f"inputs: {name}"] += 1
            if state == "broken":
                tally.blame(f"inputs: {name}", "traceback", f"{name} {rest}")
    code = child.end()
    if done < numbers.stop:  # it hung or died on this one
        tally.tried[f"inputs: {name}"] += 1
        tally.blame(f"inputs: {name}", "hang", f"{name} {done} (code {code}, {PATIENCE:g} s)")
        done += 1
    return done


def _print(tally: Tally, seconds: float) -> None:
    broken = Counter((attack, damage) for attack, damage, _ in tally.broken)
    rows = [[attack, count, *(broken[attack, damage] for damage in DAMAGE)] for attack, count in tally.tried.items()]
    inputs = sum(count for attack, count in tally.tried.items() if attack.startswith("inputs"))
    kills = sum(count for attack, count in tally.tried.items() if attack.startswith("kill"))
    for attack, damage, where in tally.broken[:200]:
        print(f"{attack}: {damage}: {where}")
    print(tabulate(rows, ["attack", "tried", *DAMAGE], tablefmt="github"))
    print(f"{kills} kills, {inputs} inputs, {len(tally.broken)} broken, {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
