"""Decode a part of the pictures before curate."""

import logging
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import count
from math import ceil
from pathlib import Path

from fcotvl.core.config import Params
from fcotvl.core.errors import ParamsError
from fcotvl.core.io import write_json
from fcotvl.data import sources
from fcotvl.data.annotations import AbsentError
from fcotvl.data.decoding import decode, open_pool
from fcotvl.data.lazy_records import SPLIT_SHARES
from fcotvl.data.pipeline import SplitSource, corpus_fingerprint, corpus_sources
from fcotvl.data.prefetch import chunk_length, chunk_path, write_chunk

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """The chunks that this process decodes: every ``parts``-th, from ``number`` on."""

    number: int
    parts: int
    folder: Path
    pool: Executor | None


def run(params: Params, *, raw: Path | None = None, part: str, summary: Path) -> None:
    """Decode one part of the corpus' pictures before ``curate``, which decodes what is missing.

    Chunks of the sources are dealt to the parts in turn, as many as the mix needs. ``curate`` finds them by a
    fingerprint of code, params and raw files.

    Args:
        params: the study.
        raw: folder with official data sets (default: data.raw of params.yaml).
        part: which part, as K-of-N: 3-of-8.
        summary: JSON file to write, in the folder ``prefetch`` beside the corpus.

    Raises:
        ParamsError: ``part`` does not have that form.
    """
    number, parts = _parse_part(part)
    raw = raw or Path(params.data.raw)
    key = corpus_fingerprint(params, raw)
    folder = summary.parent / key
    folder.mkdir(parents=True, exist_ok=True)
    for other in summary.parent.iterdir():
        # What begins with a dot is a summary that another part is about to write.
        if other.is_dir() and other != folder and not other.name.startswith("."):
            shutil.rmtree(other, ignore_errors=True)  # of other code, params or files
    corpus = params.mix_config.corpus
    with open_pool(corpus.align + corpus.instruct) as pool:
        mine = Part(number, parts, folder, pool)
        items = {split: _prefetch_split(params, raw, split, mine) for split in SPLIT_SHARES}
    write_json(summary, {"key": key, "part": part, "items": items})


def _prefetch_split(params: Params, raw: Path, split: str, part: Part) -> dict[str, int]:
    """Number of items of each source in this part."""
    contributing = corpus_sources(params, raw, split)
    total_weight = sum(one.source.weight for one in contributing)
    items = {}
    for position, source in enumerate(contributing):
        images = getattr(params.mix_config.corpus, split)
        needed = ceil(images * source.source.weight / total_weight)
        try:
            items[source.name] = sum(_prefetch_chunks(source, position, needed, part))
        except AbsentError as error:
            if not source.source.optional:
                raise
            log.warning("%s is left out: %s", source.name, error)
        else:
            log.info("%s of %s: %d items", split, source.name, items[source.name])
    return items


def _prefetch_chunks(source: SplitSource, position: int, needed: int, part: Part) -> Iterator[int]:
    """Length of each chunk of this part, up to ``needed`` items of all parts or the source's end.

    The chunks before predict how many items a chunk has; at first, as many as it has entries.
    """
    lengths: list[int] = []
    for chunk in count(part.number - 1, part.parts):
        typical = sum(lengths) / len(lengths) if lengths else sources.CHUNK_SIZE
        if chunk * typical >= needed:
            return
        path = chunk_path(part.folder, source.split, position, chunk)
        if not path.is_file():
            entries = source.entries(chunk, chunk + 1)
            write_chunk(path, decode(entries, source.decoder, part.pool))
        lengths.append(chunk_length(path))
        if not lengths[-1]:
            return
        yield lengths[-1]


def _parse_part(part: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)-of-(\d+)", part)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ParamsError(f"--part is {part!r}, expected K-of-N with 1 <= K <= N, such as 3-of-8")
    return int(match[1]), int(match[2])
