"""Stage ``curate``: from sources to the corpus and the benchmarks, with an audit of both."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fcotvl.data import sources
from fcotvl.data.audit import Composition, account, dropped
from fcotvl.data.drafts import Request
from fcotvl.data.duplicates import Benchmarks, Seen
from fcotvl.data.mixture import Stream, examine, mix
from fcotvl.data.opening import opened, routed
from fcotvl.errors import DataError
from fcotvl.files import atomic, write_json
from fcotvl.params import BenchmarkParams, Params, SourceParams
from fcotvl.records import Record, write_shards

log = logging.getLogger(__name__)

SPLITS = ("val", "instruct", "align")
"""In this order: a picture that two of them could have goes to the first."""


def run(params: Params, *, raw: Path, corpus: Path, benchmarks: Path, audit: Path) -> None:
    """Write ``corpus/{align,instruct,val}``, ``benchmarks/<name>`` and what they are made of."""
    if not raw.is_dir():
        raise DataError(f"no folder {raw}; data.raw in params.yaml says where your data sets are")
    distance = params.at.corpus.near_duplicate
    protected, seen = Benchmarks(distance), Seen(distance)
    found: dict[str, Any] = {"data_seed": params.data_seed, "benchmarks": {}, "corpus": {}}
    drops: list[dict[str, Any]] = []
    with atomic(corpus) as corpus_scratch, atomic(benchmarks) as benchmark_scratch:
        for name, benchmark in params.at.benchmarks.items():
            stream = _stream(name, benchmark, params, raw, "test")
            records = examine(stream, benchmark.count, protected)
            row = _write(benchmark_scratch / name, records, [stream], params)
            found["benchmarks"][name] = {"questions_asked": benchmark.count, **row}
            drops += dropped([stream], name)
        for split in SPLITS:
            count = getattr(params.at.corpus, split)
            feeding = [source for source in params.at.sources if split in source.splits]
            streams = [_stream(_label(source), source, params, raw, split) for source in feeding]
            records = mix(streams, count, seen, protected)
            row = _write(corpus_scratch / split, records, streams, params)
            found["corpus"][split] = {"images_asked": count, **row}
            drops += dropped(streams, split)
    write_json(audit, {**found, "dropped": drops})


def _stream(
    name: str, source: SourceParams | BenchmarkParams, params: Params, raw: Path, split: str
) -> Stream:
    """What ``source`` has for ``split``, opened one by one as the mixture asks for it."""
    request = Request(raw=raw, split=split, seed=params.data_seed)
    feeds = source.splits if isinstance(source, SourceParams) else (split,)
    found = sources.read(source.reader, request, source.options)
    items = opened(
        routed(found, split, feeds),
        split=split,
        licence=source.licence,
        max_pixels=params.at.corpus.max_pixels,
        is_hashed=params.at.corpus.near_duplicate > 0,
    )
    weight = source.weight if isinstance(source, SourceParams) else 1.0
    return Stream(name, weight, items)


def _label(source: SourceParams) -> str:
    """The reader and its options: ``rendered family=chart``."""
    return " ".join([source.reader, *(f"{key}={value}" for key, value in source.options.items())])


def _write(
    folder: Path,
    records: Iterator[Record],
    streams: Sequence[Stream],
    params: Params,
) -> dict[str, Any]:
    """Write the shards of one split or benchmark and return their account."""
    composition = Composition()
    bar = tqdm(composition.watch(records), desc=folder.name, unit=" images", disable=None)
    write_shards(folder, bar, shard_size=params.at.corpus.shard_size)
    try:
        rows = account(streams)
    except DataError as error:
        raise DataError(f"{folder.name}: {error}") from error
    log.info("%s: %d images, %d questions", folder.name, composition.records, composition.turns)
    return {**composition.to_json(), "sources": rows}
