"""How fast curation is against drawing and encoding alone, and what memory it takes.

    python benchmarks/curate.py --records 100000 --output curate.json

Try 2,000 and 10,000 first: peak memory only rises, so each size is a run of its own. Time is CPU
time of this process and of its workers, so that a busy machine does not change the ratio. Memory
is the peak of this process, read at a quarter, a half and all of the records: what one more record
costs follows from the last two (below some 10,000 records buffers hide it). What grows with the
number of records is ``Seen`` (pixels, id and 8 bytes a question of each record that was kept), a
byte per record read, and a row of the audit per record dropped; a shard of records waits in memory
to be written. Renders look alike, so near duplicates are not sought here; what ``Near`` would take
beside it is measured with as many random hashes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

from tqdm import tqdm

from fcotvl.core.records import Record
from fcotvl.core.shards import write_shards
from fcotvl.data import sources
from fcotvl.data.audit import Composition, Tiling
from fcotvl.data.decoding import Opening, Result, opened
from fcotvl.data.dedup import BITS, Benchmarks, Near, Seen
from fcotvl.data.images import encode
from fcotvl.data.lazy_records import Request
from fcotvl.data.mixing import Stream, mix
from fcotvl.data.resume_log import Journal
from fcotvl.toy.render import FAMILIES, render

PURE = 600
"""Pictures that the baseline draws."""
DISTANCE = 10
"""Bits between near duplicates, as at the scales on real data."""
NEAR_CALLS = 10_000


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    pure = baseline(given.records)
    found = curate(given.records, given.workers)
    found["pure_records_per_cpu_second"] = round(pure, 1)
    found["share_of_pure"] = round(found["records_per_cpu_second"] / pure, 3)
    found |= near(given.records)
    text = json.dumps(found, indent=2)
    print(text)
    if given.output:
        given.output.write_text(text + "\n", encoding="utf-8")


def baseline(count: int) -> float:
    """Records per CPU second of drawing and encoding alone, over a sample of the same records."""
    many = min(PURE, count)
    start = time.process_time()
    for number in range(many):
        index = number * count // many
        encode(
            render(FAMILIES[index % len(FAMILIES)], "train", index // len(FAMILIES) * 2, 0).image
        )
    return many / (time.process_time() - start)


def curate(count: int, workers: int) -> dict[str, Any]:
    """Curate ``count`` records of all families into shards in a temporary folder."""
    opening = Opening("align", "Apache-2.0", 10**7, is_hashed=False)
    started, wall = cpu_seconds(), time.monotonic()
    pools = ProcessPoolExecutor(workers, get_context("spawn")) if workers > 1 else nullcontext()
    marks: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder, pools as pool:
        request = Request(raw=Path(folder), split="align", seed=0)
        journal = Journal(Path(folder), "corpus/align")

        def items(family: str, known: int) -> Iterator[Result]:
            drafts = islice(sources.read("rendered", request, {"family": family}), known, None)
            return opened(drafts, opening, workers=workers, pool=pool)

        streams = [
            Stream(family, 1.0, journal.items(partial(items, family))) for family in FAMILIES
        ]
        records = mix(streams, count, Seen(0), Benchmarks(0))
        composition = Composition(Tiling(224, 1, 64))
        bar = tqdm(composition.watch(records), total=count, disable=None)
        marked = _marked(iter(bar), count, marks)
        write_shards(journal.shards, marked, shard_size=500, after=journal.close)
    spent = cpu_seconds() - started
    half, whole = marks[count // 2], marks[count]
    return {
        "records": composition.records,
        "workers": workers,
        "records_per_cpu_second": round(count / spent, 1),
        "records_per_second": round(count / (time.monotonic() - wall), 1),
        "peak_mib": {str(seen): round(value) for seen, value in marks.items()},
        "bytes_per_record": round((whole - half) * 2**20 / (count - count // 2)),
        "mib_at_1_000_000": round(
            whole + (whole - half) * (1_000_000 - count) / (count - count // 2)
        ),
        "cores": os.cpu_count(),
    }


def near(count: int) -> dict[str, float]:
    """Memory and time for each of ``count`` random hashes, sought and then added."""
    rng, index = Random(0), Near(DISTANCE)
    tracemalloc.start()
    for number in range(count):
        value = rng.getrandbits(BITS)
        index.find(value)
        index.add(value, number.to_bytes(16, "little"))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    start = time.process_time()
    for _ in range(NEAR_CALLS):
        index.find(rng.getrandbits(BITS))
    spent = time.process_time() - start
    return {
        "near_bytes_per_record": round(held / count),
        "near_microseconds": round(spent / NEAR_CALLS * 1e6, 1),
    }


def _marked(records: Iterator[Record], count: int, marks: dict[int, float]) -> Iterator[Record]:
    at = {count // 4, count // 2, count}
    for number, record in enumerate(islice(records, count), start=1):
        if number in at:
            marks[number] = peak_mib()
        yield record


def cpu_seconds() -> float:
    """Of this process and the workers that have ended."""
    own, ended = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def peak_mib() -> float:
    """Of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
