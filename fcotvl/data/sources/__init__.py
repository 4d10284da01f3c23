"""Readers of data sets: each file of this folder defines one, as a function called ``read``.

A reader takes a ``Request`` and its own options, and yields a lazy record or a ``Quarantined`` for each record. One bad
record never stops it; a missing folder or annotation file is a ``DataError``, raised by the call, not by the first
record.

Options of one name mean the same: ``folder`` is below ``data.raw``, the file ``annotations`` and the folder ``images``
below ``folder``; ``split`` is the data set's (rows of others are skipped); ``source`` and ``kind`` are those of the
records and their questions.

What a reader yields is divided into chunks of ``CHUNK_SIZE``. A reader whose module defines ``OWN_CHUNKS`` reads the
requested chunks itself, where skipping would mean downloading.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from fcotvl.core.registry import Registry
from fcotvl.data.lazy_records import Entry, Request

REGISTRY = Registry(__name__, "read", noun="reader")
available = REGISTRY.available
CHUNK_SIZE = 1000
"""Entries in a chunk."""


def read(name: str, request: Request, options: Mapping[str, Any]) -> Iterator[Entry]:
    """What reader ``name`` finds in the requested chunks.

    Raises:
        ParamsError: ``name`` is unknown or does not take these ``options``.
        DataError: its folder or its annotations are missing.
    """
    entries: Iterator[Entry] = REGISTRY.call(name, request, options=options)
    if hasattr(REGISTRY.module(name), "OWN_CHUNKS"):
        return entries
    last = None if request.last is None else request.last * CHUNK_SIZE
    return islice(entries, request.first * CHUNK_SIZE, last)
