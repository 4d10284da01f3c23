"""The questions of a benchmark as lm-eval's documents: curated, from the files of a mix, or from the hub."""

import io
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from PIL import Image

from fcotvl.core.config import Params
from fcotvl.core.prompts import Prompts
from fcotvl.core.records import Record
from fcotvl.data import sources
from fcotvl.data.decoding import Decoder, Item, decode
from fcotvl.data.dedup import ContaminationFilter
from fcotvl.data.lazy_records import Request
from fcotvl.data.mixing import Stream, take_benchmark
from fcotvl.data.pipeline import ItemReader, benchmark_source

log = logging.getLogger(__name__)

Document = dict[str, Any]
MAX_PIXELS = 80_000_000
"""Larger pictures of the hub are left out, as mix ``public`` does."""


class Questions(Sequence[Document]):
    """One document a question, in the order of the records.

    Args:
        records: pictures with their questions.
        prompts: how a question is asked.
        mode: ``direct`` or ``cot``.
        max_tiles: largest number of tiles per picture, thumbnail not counted.
    """

    features: Mapping[str, str] = dict.fromkeys(
        ("question_id", "image_id", "source", "kind", "question", "prompt", "references", "max_tiles"), ""
    )
    """Names of a document's fields, as lm-eval asks a data set for them."""

    def __init__(self, records: Sequence[Record], prompts: Prompts, mode: str, max_tiles: int) -> None:
        self._records = {record.id: record for record in records}
        self._documents = [
            {
                "question_id": turn.id,
                "image_id": record.id,
                "source": record.source,
                "kind": turn.kind,
                "question": turn.question,
                "prompt": prompts.ask(turn, mode),
                "references": list(turn.answers),
                "max_tiles": max_tiles,
            }
            for record in records
            for turn in record.turns
        ]

    def __len__(self) -> int:
        return len(self._documents)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        return self._documents[index]

    def pictures(self, document: Document) -> list[Image.Image]:
        """The picture of a document, opened but not decoded: lm-eval holds those of all documents at once."""
        return [Image.open(io.BytesIO(self._records[document["image_id"]].image), formats=("PNG", "JPEG"))]


def of_mix(params: Params, benchmark: str) -> list[Record]:
    """The questions of ``benchmark`` from their source in the mix of ``params``, as ``curate`` takes them.

    Raises:
        DataError: the source is missing or cannot be read.
    """
    settings = params.mix_config.benchmarks[benchmark]
    reader = ItemReader(benchmark_source(params, Path(params.data.raw), benchmark, settings), [], None)
    return _take(benchmark, reader.read(), settings.count)


def of_hub(
    hub_id: str, *, config: str | None, split: str, licence: str, options: Mapping[str, Any], count: int | None
) -> list[Record]:
    """The first ``count`` questions of a hub data set, or all, by the reader ``huggingface`` with its ``options``.

    Raises:
        DataError: the hub, the data set or a column is not available.
    """
    options = {"id": hub_id, "config": config or "", "split": split, **options}
    entries = sources.read("huggingface", Request(Path(), "test", seed=0), options)
    return _take(hub_id, decode(entries, Decoder("test", licence, MAX_PIXELS, needs_hash=False)), count or sys.maxsize)


def _take(name: str, items: Iterator[Item], count: int) -> list[Record]:
    """Records with up to ``count`` questions, as ``curate`` takes them; what cannot be read is counted."""
    stream = Stream(name, 1.0, items)
    pictures: dict[str, bytes] = {}  # VQAv2 has a row for each question, and five questions a picture: it is held once
    records = [
        replace(record, image=pictures.setdefault(record.sha256, record.image))
        for record in take_benchmark(stream, count, ContaminationFilter(distance=0))
    ]
    if stream.quarantined:
        first = stream.quarantined[0]
        log.warning(
            "%s: %d records left out, the first is %s (%s)", name, len(stream.quarantined), first.file, first.reason
        )
    return records
