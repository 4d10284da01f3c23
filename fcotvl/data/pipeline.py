"""From a source to the items of one split: listed, decoded or prefetched, from any item on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fcotvl.core.config import BenchmarkParams, Params, SourceParams
from fcotvl.core.resume import code_of, fingerprint
from fcotvl.data import sources
from fcotvl.data.decoding import Decoder, Item, decode
from fcotvl.data.lazy_records import Entry, Request, of_split
from fcotvl.data.prefetch import chunk_length, read_chunk


@dataclass(frozen=True)
class SplitSource:
    """One source, as one split reads it."""

    name: str
    split: str
    source: SourceParams
    params: Params
    raw: Path

    @property
    def decoder(self) -> Decoder:
        """How its pictures are decoded."""
        corpus = self.params.mix_config.corpus
        needs_hash = corpus.near_duplicate > 0
        return Decoder(self.split, self.source.licence, corpus.max_pixels, needs_hash)

    def entries(self, first: int = 0, last: int | None = None) -> Iterator[Entry]:
        """What belongs to the split, from chunk ``first`` up to ``last``.

        Raises:
            AbsentError: the source is missing.
        """
        request = Request(self.raw, self.split, self.params.data_seed, first, last)
        entries = sources.read(self.source.reader, request, self.source.options)
        return of_split(entries, self.split, self.source.splits)


class ItemReader:
    """The items of one source, readable from any of them on, as often as wanted.

    Args:
        source: opened at once, so that a missing one is noticed here.
        chunks: files of its leading chunks, which were prefetched.
        pool: processes that decode the others.

    Raises:
        AbsentError: the source is missing.
    """

    def __init__(self, source: SplitSource, chunks: Sequence[Path], pool: Executor | None) -> None:
        self.source, self.chunks, self.pool = source, chunks, pool
        self._opened: Iterator[Entry] | None = source.entries(len(chunks))

    def read(self, start: int = 0) -> Iterator[Item]:
        """Items from number ``start`` on."""
        for path in self.chunks:
            length = chunk_length(path)
            if start < length:
                yield from islice(read_chunk(path), start, None)
            start = max(0, start - length)
        entries, self._opened = self._opened or self.source.entries(len(self.chunks)), None
        yield from decode(islice(entries, start, None), self.source.decoder, self.pool)


def corpus_sources(params: Params, raw: Path, split: str) -> list[SplitSource]:
    """The sources of the mix that contribute to ``split``, named ``rendered family=chart``."""
    found = []
    for source in params.mix_config.sources:
        if split in source.splits:
            options = (f"{key}={value}" for key, value in source.options.items())
            name = " ".join([source.reader, *options])
            found.append(SplitSource(name, split, source, params, raw))
    return found


def benchmark_source(params: Params, raw: Path, name: str, benchmark: BenchmarkParams) -> SplitSource:
    """The questions of one benchmark."""
    shared = benchmark.model_dump(include={"reader", "options", "licence", "optional"})
    return SplitSource(name, "test", SourceParams(**shared, splits=("test",)), params, raw)


def cache_key(params: Params) -> list[object]:
    """The params that decide what is curated."""
    return [params.data_seed, params.mix_config.model_dump()]


def corpus_fingerprint(params: Params, raw: Path) -> str:
    """Changes with anything that decides what is curated: code, params, raw files."""
    return fingerprint(code_of("curate"), cache_key(params), vast=[raw])
