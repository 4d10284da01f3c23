"""Reading annotations that may be damaged: every finding is a ``DataError`` with one clear line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fcotvl.core.errors import DataError

_SHOWN = 60
"""Characters of a wrong value that a message repeats."""


class AbsentError(DataError):
    """A data set, or a part of it, is not there, as against there and damaged."""


def existing(raw: Path, name: str, what: str) -> Path:
    """``raw/name``.

    Raises:
        AbsentError: it is not there; says what was looked for.
    """
    found = raw / name
    if found.exists():
        return found
    raise AbsentError(f"{what}: no {name!r} in {raw}; unpack it there or change data.raw")


def first_of(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of ``names`` that exists below ``root``.

    Raises:
        AbsentError: none does.
    """
    for name in names:
        if (root / name).exists():
            return root / name
    others = f" (nor {len(names) - 1} other places)" if len(names) > 1 else ""
    raise AbsentError(f"{what}: no {names[0]} in {root}{others}; expected the official layout")


def read_text(path: Path) -> str:
    """The text in ``path``.

    Raises:
        DataError: it is missing or not UTF-8.
    """
    try:
        return _decode(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error


def read_json(path: Path) -> Any:
    """The JSON value in ``path``.

    Raises:
        DataError: it is missing, not UTF-8 or not JSON.
    """
    return _parse(read_text(path))


def read_lines(path: Path) -> Iterator[Any]:
    """The JSON value of each line of ``path``, or the ``DataError`` that says why there is none."""
    with path.open("rb") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                yield _parse(_decode(line))
            except DataError as error:
                yield error


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise DataError(f"not UTF-8 (byte {byte:#04x} at {error.start})") from error


def _parse(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({error})") from error


def read_rows(path: Path, *keys: str) -> list[Any]:
    """The list in ``path``, below ``keys`` if any are given.

    Raises:
        DataError: as ``read_json``, or there is something else.
    """
    value = read_json(path)
    for key in keys:
        value = _get(value, key)
    if not isinstance(value, list):
        raise DataError(f"holds {type(value).__name__}, expected a list of rows")
    return value


def inside(root: Path, name: str) -> Path:
    """``root/name``, which an annotation says.

    Raises:
        DataError: the path leaves ``root``, also through a link.
    """
    if "\0" in name or not name:
        raise DataError(f"image path {name!r} is no file name")
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"image path {name!r} leaves the data set's folder")
    return path


def text(row: Any, key: str) -> str:
    """The string ``row[key]``.

    Raises:
        DataError: ``row`` is no object, or the key is missing or holds something else.
    """
    value = _get(row, key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{key} is {_show(value)}, expected text")
    return _clean(value)


def texts(row: Any, key: str) -> tuple[str, ...]:
    """The strings of ``row[key]``, which may be one string or a list of them.

    Raises:
        DataError: as ``text``.
    """
    value = _get(row, key)
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise DataError(f"{key} is {_show(value)}, expected a list of texts")
    return tuple(dict.fromkeys(cleaned for item in found if (cleaned := _clean(item))))


def _clean(value: str) -> str:
    """Without space around it and without lone surrogates, which UTF-8 cannot hold."""
    return value.encode("utf-8", "replace").decode("utf-8").strip()


def integer(row: Any, key: str) -> int:
    """The whole number ``row[key]``; a mirror may hold it as text.

    Raises:
        DataError: as ``text``.
    """
    value = _get(row, key)
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).isdecimal():
        raise DataError(f"{key} is {_show(value)}, expected a whole number")
    return int(value)


def _get(row: Any, key: str) -> Any:
    if not isinstance(row, dict):
        raise DataError(f"a row is {_show(row)}, expected an object with {key}")
    if key not in row:
        raise DataError(f"{key} is missing; found {_show(list(row))}")
    return row[key]


def _show(value: Any) -> str:
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '...'}"
