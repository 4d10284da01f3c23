"""What a source feeds into a split: its drafts, in cuts, and how they are opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from fcotvl.core.config import BenchmarkParams, Params, SourceParams
from fcotvl.core.resume import code_of, fingerprint
from fcotvl.data import sources
from fcotvl.data.decoding import Found, Opening, routed, workers
from fcotvl.data.lazy_records import Request

WORTH = 500
"""Images from which on it is worth starting processes."""


@dataclass(frozen=True)
class Feed:
    """One source, asked for one split."""

    name: str
    weight: float
    splits: tuple[str, ...]
    """All that the source feeds."""
    request: Request
    opening: Opening
    reader: str
    options: dict[str, Any]
    is_optional: bool = False

    def drafts(self, first: int = 0, last: int | None = None) -> Iterator[Found]:
        """What belongs to the split, from cut ``first`` up to ``last``.

        Raises:
            AbsentError: the source is not there.
        """
        request = replace(self.request, first=first, last=last)
        found = sources.read(self.reader, request, self.options)
        return routed(found, request.split, self.splits)


def corpus_feeds(
    params: Params, raw: Path, split: str, listed: Sequence[SourceParams]
) -> list[Feed]:
    """Those of the ``listed`` sources that feed ``split``, in their order."""
    return [
        _feed(params, raw, split, _label(source), source)
        for source in listed
        if split in source.splits
    ]


def benchmark_feed(params: Params, raw: Path, name: str, benchmark: BenchmarkParams) -> Feed:
    """The questions of one benchmark."""
    return _feed(params, raw, "test", name, benchmark)


def _feed(
    params: Params, raw: Path, split: str, name: str, source: SourceParams | BenchmarkParams
) -> Feed:
    budget = params.mix_config.corpus
    return Feed(
        name=name,
        weight=source.weight if isinstance(source, SourceParams) else 1.0,
        splits=tuple(source.splits) if isinstance(source, SourceParams) else (split,),
        request=Request(raw=raw, split=split, seed=params.data_seed),
        opening=Opening(split, source.licence, budget.max_pixels, budget.near_duplicate > 0),
        reader=source.reader,
        options=dict(source.options),
        is_optional=source.optional,
    )


def _label(source: SourceParams) -> str:
    """The reader and its options: ``rendered family=chart``."""
    return " ".join([source.reader, *(f"{key}={value}" for key, value in source.options.items())])


def cache_key(params: Params) -> list[object]:
    """The params that decide what is curated."""
    return [params.data_seed, params.mix_config.model_dump()]


def corpus_fingerprint(params: Params, raw: Path) -> str:
    """What changes with anything that decides what is curated: code, params, raw files."""
    return fingerprint(code_of("curate"), cache_key(params), vast=[raw])


def open_pool(params: Params) -> AbstractContextManager[Executor | None]:
    """Processes that open pictures, where there are enough of them to be worth the start."""
    budget = params.mix_config.corpus
    if workers() == 1 or budget.align + budget.instruct < WORTH:
        return nullcontext()
    return ProcessPoolExecutor(workers(), get_context("spawn"))
