"""Speed of curation, compared with drawing and encoding alone, and its memory.

    python benchmarks/curate.py --records 100000 --output curate.json

Try 2,000 and 10,000 first: peak memory only rises, so each size is a run of its own. Time is CPU time of this process
and of its workers, so that a busy machine does not change the ratio. Memory is the peak of this process, read at a
quarter, a half and all of the records: the cost of one more record follows from the last two (below some 10,000 records
buffers hide it). What grows with the number of records is ``DedupIndex`` (pixels, id and 8 bytes a question of each
kept record), a byte per record read, and a row of the audit per dropped record; a shard of records waits in memory to
be written. Renders look alike, so near duplicates are not sought here; the cost of ``HammingIndex`` is measured with as
many random hashes.
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
from fcotvl.data.decoding import Decoder, Item, decode
from fcotvl.data.dedup import BITS, ContaminationFilter, DedupIndex, HammingIndex
from fcotvl.data.images import encode
from fcotvl.data.lazy_records import Request
from fcotvl.data.mixing import Stream, mix
from fcotvl.data.resume_log import ResumeLog
from fcotvl.toy.render import FAMILIES, render

PURE = 600
"""Pictures that the baseline draws."""
DISTANCE = 10
"""Bits between near duplicates, as in the mixes of real data."""
SEARCHES = 10_000


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    pure = baseline(given.records)
    found = curate(given.records, given.workers)
    found["pure_records_per_cpu_second"] = round(pure, 1)
    found["share_of_pure"] = round(found["records_per_cpu_second"] / pure, 3)
    found |= hamming_index(given.records)
    text = json.dumps(found, indent=2)
    print(text)
    if given.output:
        given.output.write_text(text + "\n", encoding="utf-8")


def baseline(count: int) -> float:
    """Records per CPU second of drawing and encoding alone, over a sample of the same records."""
    sample = min(PURE, count)
    start = time.process_time()
    for number in range(sample):
        index = number * count // sample
        encode(render(FAMILIES[index % len(FAMILIES)], "train", index // len(FAMILIES) * 2, 0).image)
    return sample / (time.process_time() - start)


def curate(count: int, workers: int) -> dict[str, Any]:
    """Curate ``count`` records of all families into shards in a temporary folder."""
    os.environ["OMP_NUM_THREADS"] = str(workers)
    decoder = Decoder("align", "Apache-2.0", 10**7, needs_hash=False)
    started, wall = cpu_seconds(), time.monotonic()
    pools = ProcessPoolExecutor(workers, get_context("spawn")) if workers > 1 else nullcontext()
    peaks: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder, pools as pool:
        request = Request(raw=Path(folder), split="align", seed=0)
        resume_log = ResumeLog(Path(folder), "corpus/align")

        def items(family: str, start: int) -> Iterator[Item]:
            entries = islice(sources.read("rendered", request, {"family": family}), start, None)
            return decode(entries, decoder, pool)

        streams = [Stream(family, 1.0, resume_log.attach(partial(items, family))) for family in FAMILIES]
        records = mix(streams, count, DedupIndex(0), ContaminationFilter(0))
        composition = Composition(Tiling(224, 1, 64))
        bar = tqdm(composition.watch(records), total=count, disable=None)
        watched = _watch_memory(iter(bar), count, peaks)
        write_shards(resume_log.shards, watched, shard_size=500, after=resume_log.end_shard)
    spent = cpu_seconds() - started
    half, whole = peaks[count // 2], peaks[count]
    return {
        "records": composition.records,
        "workers": workers,
        "records_per_cpu_second": round(count / spent, 1),
        "records_per_second": round(count / (time.monotonic() - wall), 1),
        "peak_mib": {str(seen): round(value) for seen, value in peaks.items()},
        "bytes_per_record": round((whole - half) * 2**20 / (count - count // 2)),
        "mib_at_1_000_000": round(whole + (whole - half) * (1_000_000 - count) / (count - count // 2)),
        "cores": os.cpu_count(),
    }


def hamming_index(count: int) -> dict[str, float]:
    """Memory and time per hash, for ``count`` random hashes that are sought and then added."""
    rng, index = Random(0), HammingIndex(DISTANCE)
    tracemalloc.start()
    for number in range(count):
        value = rng.getrandbits(BITS)
        index.find(value)
        index.add(value, number.to_bytes(16, "little"))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    start = time.process_time()
    for _ in range(SEARCHES):
        index.find(rng.getrandbits(BITS))
    spent = time.process_time() - start
    return {
        "hamming_index_bytes_per_record": round(held / count),
        "hamming_index_microseconds": round(spent / SEARCHES * 1e6, 1),
    }


def _watch_memory(records: Iterator[Record], count: int, peaks: dict[int, float]) -> Iterator[Record]:
    points = {count // 4, count // 2, count}
    for number, record in enumerate(islice(records, count), start=1):
        if number in points:
            peaks[number] = peak_mib()
        yield record


def cpu_seconds() -> float:
    """CPU time of this process and of the workers that have ended."""
    own, ended = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def peak_mib() -> float:
    """Peak memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
