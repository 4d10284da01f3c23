"""Build corpus and benchmarks from their sources, with an audit."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
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
from fcotvl.data.audit import Composition, Tiling, dropped_records, source_summary
from fcotvl.data.decoding import open_pool
from fcotvl.data.dedup import ContaminationFilter, DedupIndex
from fcotvl.data.mixing import Stream, mix, take_benchmark
from fcotvl.data.pipeline import (
    ItemReader,
    SplitSource,
    benchmark_source,
    cache_key,
    corpus_fingerprint,
    corpus_sources,
)
from fcotvl.data.prefetch import leading_chunks
from fcotvl.data.resume_log import ResumeLog

log = logging.getLogger(__name__)

SPLITS = ("val", "instruct", "align")
"""In this order: a picture that two of them could have goes to the first."""
REPEATED = ("instruct", "align")
"""Splits that may hold a record more than once; ``val``, on which merges are judged, may not."""
PREFETCH = "prefetch"
"""Folder beside the corpus with prefetched pictures; removed once they are in the corpus."""


def run(params: Params, *, raw: Path | None = None, corpus: Path, benchmarks: Path, audit: Path) -> None:
    """Write the corpus, the benchmarks and an audit of what they are made of.

    Args:
        params: the study.
        raw: folder with official data sets (default: data.raw of params.yaml).
        corpus: folder to write, with the splits align, instruct and val.
        benchmarks: folder to write, with the questions of each benchmark.
        audit: JSON file to write.

    Raises:
        DataError: ``raw``, a source or all benchmarks are missing.
    """
    raw = raw or Path(params.data.raw)
    if not raw.is_dir():
        raise DataError(f"no folder {raw}; data.raw in params.yaml says where your data sets are")
    mix_config, prefetch = params.mix_config, corpus.parent / PREFETCH
    resume = resumable("curate", inputs=[], cache_key=cache_key(params), vast=[raw])
    images = mix_config.corpus.align + mix_config.corpus.instruct
    with resume as folder, open_pool(images) as pool:
        prefetched = prefetch / corpus_fingerprint(params, raw)
        curation = Curation(params, raw, folder, prefetched, pool)
        benchmark_rows = {
            name: curation.write_benchmark(name, benchmark) for name, benchmark in mix_config.benchmarks.items()
        }
        absent = [row["sources"][name]["absent"] for name, row in benchmark_rows.items()]
        if all(absent):
            raise DataError(f"all benchmarks of the mix are missing: {'; '.join(absent)}")
        corpus_rows = {split: curation.write_split(split) for split in SPLITS}
        for output, name in ((corpus, "corpus"), (benchmarks, "benchmarks")):
            with atomic(output) as path:
                shutil.move(folder / name, path)
    found = {"data_seed": params.data_seed, "benchmarks": benchmark_rows, "corpus": corpus_rows}
    write_json(audit, {**found, "dropped": curation.dropped})
    shutil.rmtree(prefetch, ignore_errors=True)


@dataclass
class Curation:
    """Writes benchmarks and then splits, which must not show what was written before them."""

    params: Params
    raw: Path
    folder: Path
    """Where shards and their resume logs are written."""
    prefetched: Path
    """What the command ``prefetch`` has written, if anything."""
    pool: Executor | None
    dropped: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        distance = self.params.mix_config.corpus.near_duplicate
        self.benchmarks, self.seen = ContaminationFilter(distance), DedupIndex(distance)

    def write_benchmark(self, name: str, benchmark: BenchmarkParams) -> dict[str, Any]:
        """Write the shards of a benchmark and return its row of the audit."""
        resume_log = ResumeLog(self.folder, f"benchmarks/{name}")
        source = benchmark_source(self.params, self.raw, name, benchmark)
        stream = self._stream(source, resume_log, chunks=[])
        records = take_benchmark(stream, benchmark.count, self.benchmarks)
        row = self._write(resume_log, records, [stream], benchmark.max_tiles)
        return {"questions_asked": benchmark.count, **row}

    def write_split(self, split: str) -> dict[str, Any]:
        """Write the shards of a split of the corpus and return its row of the audit."""
        resume_log = ResumeLog(self.folder, f"corpus/{split}")
        count = getattr(self.params.mix_config.corpus, split)
        streams = [
            self._stream(source, resume_log, leading_chunks(self.prefetched, split, number))
            for number, source in enumerate(corpus_sources(self.params, self.raw, split))
        ]
        records = mix(streams, count, self.seen, self.benchmarks)
        audit = self.params.mix_config.audit
        row = self._write(resume_log, records, streams, audit.max_tiles, audit.max_length, by_source=True)
        return {"images_asked": count, **row}

    def _stream(self, source: SplitSource, resume_log: ResumeLog, chunks: list[Path]) -> Stream:
        """The items of ``source``, decoded as the mix asks for them; its ``chunks`` already are."""
        name, weight, splits = source.name, source.source.weight, source.source.splits
        try:
            reader = ItemReader(source, chunks, self.pool)
        except AbsentError as error:
            if not source.source.optional:
                raise
            if source.split == splits[0]:
                log.warning("%s is left out: %s", name, error)
            return Stream(name, weight, iter(()), absent=str(error))
        if chunks:
            log.info("%s of %s: %d prefetched chunks", source.split, name, len(chunks))
        epochs = self.params.mix_config.corpus.epochs if source.split in REPEATED else 1
        items = resume_log.attach(reader.read)
        return Stream(name, weight, items, restart=reader.read, epochs=epochs)

    def _write(
        self,
        resume_log: ResumeLog,
        records: Iterator[Record],
        streams: Sequence[Stream],
        max_tiles: int,
        max_length: int | None = None,
        *,
        by_source: bool = False,
    ) -> dict[str, Any]:
        """Write the shards of one split or benchmark and return what they are made of."""
        name, size = resume_log.shards.name, self.params.mix_config.audit.tile_size
        composition = Composition(Tiling(size, max_tiles, tokens_per_tile(size), max_length))
        bar = tqdm(composition.watch(records), desc=name, unit=" images", disable=None)
        write_shards(
            resume_log.shards,
            iter(bar),
            shard_size=self.params.mix_config.corpus.shard_size,
            by_source=by_source,
            done=resume_log.done,
            after=resume_log.end_shard,
        )
        try:
            rows = source_summary(streams)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        self.dropped += dropped_records(streams, name)
        log.info("%s: %d images, %d questions", name, composition.records, composition.turns)
        return {**composition.to_json(), "sources": rows}
