"""Readers of data sets: each file of this folder holds one, as a function called ``read``.

A reader takes a ``Request`` and its own options, and yields a draft or a ``Quarantined`` for each
record. It never stops at one bad record; a missing folder or annotation file is a ``DataError``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from fcotvl.data.drafts import Draft, Quarantined, Request
from fcotvl.errors import ParamsError

Reader = Callable[..., Iterator[Draft | Quarantined]]


@cache
def available() -> tuple[str, ...]:
    """Names of all readers in this folder, sorted: ``internvl_jsonl.py`` is ``internvl-jsonl``."""
    return tuple(sorted(module.name.replace("_", "-") for module in iter_modules(__path__)))


def read(name: str, request: Request, options: Mapping[str, Any]) -> Iterator[Draft | Quarantined]:
    """What reader ``name`` finds.

    Raises:
        ParamsError: ``name`` is unknown or does not take these ``options``.
        DataError: its folder or its annotations are missing.
    """
    reader = _reader(name)
    try:
        inspect.signature(reader).bind(request, **options)
    except TypeError as error:
        raise ParamsError(f"reader {name!r}: {error}; correct its options") from error
    return reader(request, **options)


def _reader(name: str) -> Reader:
    if name not in available():
        raise ParamsError(f"no reader {name!r}; there are {', '.join(available())}")
    found: Reader = import_module(f"{__name__}.{name.replace('-', '_')}").read
    return found
