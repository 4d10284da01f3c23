"""Stage ``curate``: from sources to the corpus and the benchmarks, with an audit of both."""

from __future__ import annotations

import fcntl
import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fcotvl.data import sources
from fcotvl.data.annotations import AbsentError
from fcotvl.data.audit import Composition, Tiling, account, dropped
from fcotvl.data.drafts import Request
from fcotvl.data.duplicates import Benchmarks, Seen
from fcotvl.data.journal import Journal
from fcotvl.data.mixture import Items, Stream, examine, mix
from fcotvl.data.opening import Found, Opening, opened, routed, workers
from fcotvl.errors import DataError
from fcotvl.files import atomic, digest, scratch, write_json
from fcotvl.params import BenchmarkParams, Params, SourceParams
from fcotvl.records import Record, write_shards

log = logging.getLogger(__name__)

SPLITS = ("val", "instruct", "align")
"""In this order: a picture that two of them could have goes to the first."""
PACKAGE = Path(__file__).parents[1]
REPEATED = ("instruct", "align")
"""Splits that may hold a record more than once: what a merge is judged on may not."""
WORTH = 500
"""Images from which on it is worth starting processes."""


@dataclass
class Curation:
    """What is being written, and what is known of it so far."""

    params: Params
    raw: Path
    scratch: Path
    pool: Executor | None
    protected: Benchmarks
    seen: Seen
    found: dict[str, Any]
    drops: list[dict[str, Any]] = field(default_factory=list)


def run(params: Params, *, raw: Path, corpus: Path, benchmarks: Path, audit: Path) -> None:
    """Write ``corpus/{align,instruct,val}``, ``benchmarks/<name>`` and what they are made of."""
    if not raw.is_dir():
        raise DataError(f"no folder {raw}; data.raw in params.yaml says where your data sets are")
    distance = params.at.corpus.near_duplicate
    found: dict[str, Any] = {"data_seed": params.data_seed, "benchmarks": {}, "corpus": {}}
    key = digest([PACKAGE], _knobs(params), vast=[raw])
    with _scratch(key) as folder, _pool(params) as pool:
        job = Curation(params, raw, folder, pool, Benchmarks(distance), Seen(distance), found)
        for name, benchmark in params.at.benchmarks.items():
            _benchmark(job, name, benchmark)
        absent = [row["sources"][name]["absent"] for name, row in found["benchmarks"].items()]
        if all(absent):
            raise DataError(f"none of this scale's benchmarks is there: {'; '.join(absent)}")
        for split in SPLITS:
            _split(job, split)
        for output, made in ((corpus, "corpus"), (benchmarks, "benchmarks")):
            with atomic(output) as path:
                shutil.move(folder / made, path)
    write_json(audit, {**found, "dropped": job.drops})


@contextmanager
def _scratch(key: str) -> Iterator[Path]:
    """The folder of a run with this ``key``, to go on in; an own one while another is at work."""
    folder = scratch("curate", key)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            with tempfile.TemporaryDirectory(prefix="curate-", dir=folder.parent) as own:
                yield Path(own)
        else:
            yield folder
            shutil.rmtree(folder)


def _knobs(params: Params) -> list[object]:
    at = params.at
    many = [*at.sources, *at.benchmarks.values(), at.corpus, at.model]
    return [params.data_seed, *at.benchmarks, *(section.model_dump() for section in many)]


def _pool(params: Params) -> AbstractContextManager[Executor | None]:
    """Processes that open pictures, where there are enough of them to be worth the start."""
    budget = params.at.corpus
    if workers() == 1 or budget.align + budget.instruct < WORTH:
        return nullcontext()
    return ProcessPoolExecutor(workers(), get_context("spawn"))


def _benchmark(job: Curation, name: str, benchmark: BenchmarkParams) -> None:
    journal = Journal(job.scratch, f"benchmarks/{name}")
    streams = [_stream(job, journal, name, benchmark, "test")]
    records = examine(streams[0], benchmark.count, job.protected)
    row = _write(job, journal, records, streams, benchmark.max_tiles)
    job.found["benchmarks"][name] = {"questions_asked": benchmark.count, **row}


def _split(job: Curation, split: str) -> None:
    journal = Journal(job.scratch, f"corpus/{split}")
    count = getattr(job.params.at.corpus, split)
    feeding = [source for source in job.params.at.sources if split in source.splits]
    streams = [_stream(job, journal, _label(source), source, split) for source in feeding]
    records = mix(streams, count, job.seen, job.protected)
    row = _write(job, journal, records, streams, job.params.at.model.max_tiles)
    job.found["corpus"][split] = {"images_asked": count, **row}


def _stream(
    job: Curation,
    journal: Journal,
    name: str,
    source: SourceParams | BenchmarkParams,
    split: str,
) -> Stream:
    """What ``source`` has for ``split``, opened as the mixture asks for it."""
    request = Request(raw=job.raw, split=split, seed=job.params.data_seed)
    feeds = source.splits if isinstance(source, SourceParams) else (split,)
    weight = source.weight if isinstance(source, SourceParams) else 1.0
    budget = job.params.at.corpus
    opening = Opening(split, source.licence, budget.max_pixels, budget.near_duplicate > 0)

    def drafts() -> Iterator[Found]:
        return routed(sources.read(source.reader, request, source.options), split, feeds)

    def items(found: Iterable[Found]) -> Items:
        return opened(found, opening, workers=workers(), pool=job.pool)

    try:
        first = drafts()
    except AbsentError as error:
        if not source.optional:
            raise
        if split == feeds[0]:
            log.warning("%s is left out: %s", name, error)
        return Stream(name, weight, iter(()), absent=str(error))
    known = journal.items(lambda known: items(islice(first, known, None)))
    epochs = budget.epochs if split in REPEATED else 1
    return Stream(name, weight, known, again=lambda: items(drafts()), epochs=epochs)


def _label(source: SourceParams) -> str:
    """The reader and its options: ``rendered family=chart``."""
    return " ".join([source.reader, *(f"{key}={value}" for key, value in source.options.items())])


def _write(
    job: Curation,
    journal: Journal,
    records: Iterator[Record],
    streams: Sequence[Stream],
    max_tiles: int,
) -> dict[str, Any]:
    """Write the shards of one split or benchmark and return their account."""
    name, model = journal.shards.name, job.params.at.model
    composition = Composition(Tiling(model.image_size, max_tiles, model.tokens))
    bar = tqdm(composition.watch(records), desc=name, unit=" images", disable=None)
    write_shards(
        journal.shards,
        iter(bar),
        shard_size=job.params.at.corpus.shard_size,
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
