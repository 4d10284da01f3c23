"""Readers of data sets: each file of this folder holds one, as a function called ``read``.

A reader takes a ``Request`` and its own options, and yields a draft or a ``Quarantined`` for each
record. It never stops at one bad record; a missing folder or annotation file is a ``DataError``.
What it yields is cut into blocks of ``BLOCK``; a reader whose module says ``OWN_CUTS`` reads the
cuts that the request names, because it would have to fetch what is before them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from itertools import islice
from pkgutil import iter_modules
from typing import Any

from fcotvl.core.errors import ParamsError
from fcotvl.data.lazy_records import Draft, Quarantined, Request

Reader = Callable[..., Iterator[Draft | Quarantined]]
BLOCK = 1000
"""Drafts in a cut."""


@cache
def available() -> tuple[str, ...]:
    """Names of all readers in this folder, sorted: ``internvl_jsonl.py`` is ``internvl-jsonl``."""
    return tuple(sorted(module.name.replace("_", "-") for module in iter_modules(__path__)))


def read(name: str, request: Request, options: Mapping[str, Any]) -> Iterator[Draft | Quarantined]:
    """What reader ``name`` finds in the cuts that the request names.

    Raises:
        ParamsError: ``name`` is unknown or does not take these ``options``.
        DataError: its folder or its annotations are missing.
    """
    if name not in available():
        raise ParamsError(f"no reader {name!r}; there are {', '.join(available())}")
    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    reader: Reader = module.read
    try:
        inspect.signature(reader).bind(request, **options)
    except TypeError as error:
        raise ParamsError(f"reader {name!r}: {error}; correct its options") from error
    found = reader(request, **options)
    if getattr(module, "OWN_CUTS", False):
        return found
    last = None if request.last is None else request.last * BLOCK
    return islice(found, request.first * BLOCK, last)
