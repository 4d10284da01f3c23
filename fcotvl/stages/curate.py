"""Stage ``curate``: from sources to the corpus and the benchmarks, with an audit of both."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fcotvl.core.config import BenchmarkParams, Params
from fcotvl.core.errors import DataError
from fcotvl.core.geometry import tokens_per_tile
from fcotvl.core.io import atomic, write_json
from fcotvl.core.records import Record
from fcotvl.core.resume import resumable
from fcotvl.core.shards import write_shards
from fcotvl.data.annotations import AbsentError
from fcotvl.data.audit import Composition, Tiling, account, dropped
from fcotvl.data.decoding import Found, opened, workers
from fcotvl.data.dedup import Benchmarks, Seen
from fcotvl.data.mixing import Items, Stream, examine, mix
from fcotvl.data.prefetch import continued, leading_cuts
from fcotvl.data.resume_log import Journal
from fcotvl.data.split_sources import (
    Feed,
    benchmark_feed,
    cache_key,
    corpus_feeds,
    corpus_fingerprint,
    open_pool,
)

log = logging.getLogger(__name__)

SPLITS = ("val", "instruct", "align")
"""In this order: a picture that two of them could have goes to the first."""
AHEAD = "intake"
"""Folder beside the corpus with what was opened ahead; gone once it is in the corpus."""
REPEATED = ("instruct", "align")
"""Splits that may hold a record more than once: what a merge is judged on may not."""


@dataclass
class Curation:
    """What is being written, and what is known of it so far."""

    params: Params
    raw: Path
    scratch: Path
    ahead: Path
    """Where ``intake`` has put what it opened, if it was run."""
    pool: Executor | None
    protected: Benchmarks
    seen: Seen
    found: dict[str, Any]
    drops: list[dict[str, Any]] = field(default_factory=list)


def run(params: Params, *, raw: Path, corpus: Path, benchmarks: Path, audit: Path) -> None:
    """Write ``corpus/{align,instruct,val}``, ``benchmarks/<name>`` and what they are made of."""
    if not raw.is_dir():
        raise DataError(f"no folder {raw}; data.raw in params.yaml says where your data sets are")
    distance = params.mix_config.corpus.near_duplicate
    found: dict[str, Any] = {"data_seed": params.data_seed, "benchmarks": {}, "corpus": {}}
    key, ahead = cache_key(params), corpus.parent / AHEAD
    resume = resumable("curate", inputs=[], cache_key=key, vast=[raw])
    with resume as folder, open_pool(params) as pool:
        known = Benchmarks(distance), Seen(distance)
        job = Curation(
            params, raw, folder, ahead / corpus_fingerprint(params, raw), pool, *known, found
        )
        for name, benchmark in params.mix_config.benchmarks.items():
            _benchmark(job, name, benchmark)
        absent = [row["sources"][name]["absent"] for name, row in found["benchmarks"].items()]
        if all(absent):
            raise DataError(f"none of this mix's benchmarks is there: {'; '.join(absent)}")
        for split in SPLITS:
            _split(job, split)
        for output, made in ((corpus, "corpus"), (benchmarks, "benchmarks")):
            with atomic(output) as path:
                shutil.move(folder / made, path)
    write_json(audit, {**found, "dropped": job.drops})
    shutil.rmtree(ahead, ignore_errors=True)


def _benchmark(job: Curation, name: str, benchmark: BenchmarkParams) -> None:
    journal = Journal(job.scratch, f"benchmarks/{name}")
    streams = [_stream(job, journal, benchmark_feed(job.params, job.raw, name, benchmark), [])]
    records = examine(streams[0], benchmark.count, job.protected)
    row = _write(job, journal, records, streams, benchmark.max_tiles)
    job.found["benchmarks"][name] = {"questions_asked": benchmark.count, **row}


def _split(job: Curation, split: str) -> None:
    journal = Journal(job.scratch, f"corpus/{split}")
    count = getattr(job.params.mix_config.corpus, split)
    feeds = corpus_feeds(job.params, job.raw, split, job.params.mix_config.sources)
    streams = [
        _stream(job, journal, feed, leading_cuts(job.ahead, split, place))
        for place, feed in enumerate(feeds)
    ]
    records = mix(streams, count, job.seen, job.protected)
    row = _write(job, journal, records, streams, job.params.mix_config.audit.max_tiles)
    job.found["corpus"][split] = {"images_asked": count, **row}


def _stream(job: Curation, journal: Journal, feed: Feed, cuts: Sequence[Path]) -> Stream:
    """What ``feed`` has, opened as the mixture asks for it; its first ``cuts`` are already."""
    split = feed.request.split

    def items(found: Iterable[Found]) -> Items:
        return opened(found, feed.opening, workers=workers(), pool=job.pool)

    def again() -> Items:
        return continued(cuts, 0, lambda _: items(feed.drafts(len(cuts))))

    try:
        first = feed.drafts(len(cuts))
    except AbsentError as error:
        if not feed.is_optional:
            raise
        if split == feed.splits[0]:
            log.warning("%s is left out: %s", feed.name, error)
        return Stream(feed.name, feed.weight, iter(()), absent=str(error))
    if cuts:
        log.info("%s of %s: %d cuts were opened ahead", split, feed.name, len(cuts))
    known = journal.items(
        lambda known: continued(cuts, known, lambda left: items(islice(first, left, None)))
    )
    epochs = job.params.mix_config.corpus.epochs if split in REPEATED else 1
    return Stream(feed.name, feed.weight, known, again=again, epochs=epochs)


def _write(
    job: Curation,
    journal: Journal,
    records: Iterator[Record],
    streams: Sequence[Stream],
    max_tiles: int,
) -> dict[str, Any]:
    """Write the shards of one split or benchmark and return their account."""
    name, size = journal.shards.name, job.params.mix_config.audit.tile_size
    composition = Composition(Tiling(size, max_tiles, tokens_per_tile(size)))
    bar = tqdm(composition.watch(records), desc=name, unit=" images", disable=None)
    write_shards(
        journal.shards,
        iter(bar),
        shard_size=job.params.mix_config.corpus.shard_size,
        done=journal.done,
        after=journal.close,
    )
    try:
        rows = account(streams)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    job.drops += dropped(streams, name)
    log.info("%s: %d images, %d questions", name, composition.records, composition.turns)
    return {**composition.to_json(), "sources": rows}
