"""Fields of a row of annotations, checked: every fault is a ``DataError`` of one clear line."""

from typing import Any

from fcotvl.core.errors import DataError

_SHOWN = 60
"""Characters of a wrong value that a message shows."""
MAX_DIGITS = 18
"""Digits of a whole number: what 64 bits hold."""


def text(row: Any, key: str) -> str:
    """The string ``row[key]``.

    Raises:
        DataError: ``row`` is not an object, or the key is missing or holds something else.
    """
    value = get(row, key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{key} is {_show(value)}, expected text")
    return _clean(value)


def text_or_empty(row: Any, key: str) -> str:
    """As ``text``, but a blank text is as good as none.

    Raises:
        DataError: as ``text``.
    """
    value = get(row, key)
    return "" if isinstance(value, str) and not value.strip() else text(row, key)


def texts(row: Any, key: str) -> tuple[str, ...]:
    """The strings of ``row[key]``, which may be one string or a list of them.

    Raises:
        DataError: as ``text``.
    """
    value = get(row, key)
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise DataError(f"{key} is {_show(value)}, expected a list of texts")
    return tuple(dict.fromkeys(cleaned for item in found if (cleaned := _clean(item))))


def items(row: Any, key: str) -> list[Any]:
    """The list ``row[key]``.

    Raises:
        DataError: ``row`` is not an object, or the key is missing or holds something else.
    """
    value = row.get(key) if isinstance(row, dict) else None
    if not isinstance(value, list):
        raise DataError(f"{key} is {type(value).__name__}, expected a list")
    return value


def _clean(value: str) -> str:
    """Strip spaces around it and replace lone surrogates, which UTF-8 cannot hold."""
    return value.encode("utf-8", "replace").decode("utf-8").strip()


def integer(row: Any, key: str) -> int:
    """The whole number ``row[key]``; a mirror may hold it as text.

    Raises:
        DataError: as ``text``.
    """
    value = get(row, key)
    if isinstance(value, bool) or not isinstance(value, int | str) or not _is_whole(value):
        raise DataError(f"{key} is {_show(value)}, expected a whole number")
    return int(value)


def _is_whole(value: int | str) -> bool:
    if isinstance(value, int):
        return 0 <= value < 10**MAX_DIGITS
    return value.isdecimal() and len(value) <= MAX_DIGITS


def get(row: Any, key: str) -> Any:
    """``row[key]``.

    Raises:
        DataError: ``row`` is not an object, or the key is missing.
    """
    if not isinstance(row, dict):
        raise DataError(f"a row is {_show(row)}, expected an object with {key}")
    if key not in row:
        raise DataError(f"{key} is missing; found {_show(list(row))}")
    return row[key]


def _show(value: Any) -> str:
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '...'}"
