"""Command ``intake``: open one part of the corpus' pictures ahead of curate, on any machine."""

from __future__ import annotations

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
from fcotvl.data.decoding import opened, workers
from fcotvl.data.lazy_records import CARVE
from fcotvl.data.prefetch import count_cut, cut_path, save_cut
from fcotvl.data.split_sources import Feed, corpus_feeds, corpus_fingerprint, open_pool

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """The share of the work that this process does, and where it goes."""

    number: int
    parts: int
    folder: Path
    pool: Executor | None


def run(params: Params, *, raw: Path, part: str, account: Path) -> None:
    """Open part ``K-of-N`` beside the file ``account``, and write there what came of it.

    Cuts of the sources are dealt out in turn, as many as the mix will ask for. ``curate`` finds
    them by a fingerprint of code, params and raw files, and opens itself what is missing.

    Raises:
        ParamsError: ``part`` is not of that form.
    """
    numbers = _numbers(part)
    key = corpus_fingerprint(params, raw)
    folder = account.parent / key
    folder.mkdir(parents=True, exist_ok=True)
    for other in account.parent.iterdir():
        if other.is_dir() and other != folder:
            shutil.rmtree(other, ignore_errors=True)  # of other code, params or files
    with open_pool(params) as pool:
        mine = Part(*numbers, folder, pool)
        found = {split: _open_split(params, raw, split, mine) for split in CARVE}
    write_json(account, {"key": key, "part": part, "items": found})


def _open_split(params: Params, raw: Path, split: str, part: Part) -> dict[str, int]:
    """Items of each source in this part."""
    feeds = corpus_feeds(params, raw, split, params.mix_config.sources)
    whole = sum(feed.weight for feed in feeds)
    found = {}
    for place, feed in enumerate(feeds):
        wanted = ceil(getattr(params.mix_config.corpus, split) * feed.weight / whole)
        try:
            found[feed.name] = sum(_open_cuts(feed, place, wanted, part))
        except AbsentError as error:
            if not feed.is_optional:
                raise
            log.warning("%s is left out: %s", feed.name, error)
        else:
            log.info("%s of %s: %d items", split, feed.name, found[feed.name])
    return found


def _open_cuts(feed: Feed, place: int, wanted: int, part: Part) -> Iterator[int]:
    """Items in each cut of this part, until the split has what it will ask for or there are none.

    How many a cut gives is known from those before it; at first, as many as it has drafts.
    """
    sizes: list[int] = []
    for cut in count(part.number - 1, part.parts):
        typical = sum(sizes) / len(sizes) if sizes else sources.BLOCK
        if cut * typical >= wanted:
            return
        path = cut_path(part.folder, feed.request.split, place, cut)
        if not path.is_file():
            drafts = feed.drafts(cut, cut + 1)
            save_cut(path, opened(drafts, feed.opening, workers=workers(), pool=part.pool))
        sizes.append(count_cut(path))
        if not sizes[-1]:
            return
        yield sizes[-1]


def _numbers(part: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)-of-(\d+)", part)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ParamsError(f"--part is {part!r}, expected K-of-N with 1 <= K <= N, as 3-of-8")
    return int(match[1]), int(match[2])
