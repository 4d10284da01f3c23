"""Reading annotations that may be damaged: every fault is a ``DataError`` of one clear line."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data import fields
from fcotvl.data.lazy_records import FileEntries, FileRecord, Quarantined, read_bytes

T = TypeVar("T")
Parse = Callable[[int, Any], T | None]
"""Makes something of the number and content of a row; ``None`` passes over it, ``DataError`` says what is wrong with
it."""


class AbsentError(DataError):
    """A data set, or a part of it, is missing (not damaged)."""


def existing(raw: Path, name: str, what: str) -> Path:
    """``raw/name``.

    Raises:
        AbsentError: it does not exist; ``what`` begins the message.
    """
    if (raw / name).exists():
        return raw / name
    raise AbsentError(f"{what}: no {name!r} in {raw}; unpack it there or change data.raw")


def first_existing(root: Path, names: Sequence[str], what: str) -> Path:
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
        return _decode(read_bytes(path))
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error


def read_json(path: Path) -> Any:
    """The JSON value in ``path``.

    Raises:
        DataError: it is missing, not UTF-8 or not JSON.
    """
    return _parse_json(read_text(path))


def read_lines(path: Path) -> Iterator[Any]:
    """The JSON value of each line of ``path``, or the ``DataError`` that says why there is none.

    Raises:
        DataError: there is no such file; raised by the call, not by the first line.
    """
    return _json_lines(open_file(path))


def _json_lines(file: BinaryIO) -> Iterator[Any]:
    with file:
        for line in file:
            if not line.strip():
                continue
            try:
                yield _parse_json(_decode(line))
            except DataError as error:
                yield error


def open_file(path: Path) -> BinaryIO:
    """``path``, open for reading.

    Raises:
        DataError: it cannot be read, or is a folder or a pipe.
    """
    try:
        if path.is_file():
            return path.open("rb")
        reason = "not a file"
    except OSError as error:
        reason = str(error.strerror)
    raise DataError(f"{path} cannot be read ({reason}); expected a file of annotations")


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise DataError(f"not UTF-8 (byte {byte:#04x} at {error.start})") from error


def _parse_json(value: str) -> Any:
    try:
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            raise
        except ValueError:  # a number has more digits than int() takes: a fault of its row, not of the file
            return json.loads(value, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({error})") from error


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= fields.MAX_DIGITS else digits


def read_rows(path: Path, *keys: str) -> list[Any]:
    """The list in ``path``, below ``keys`` if any are given.

    Raises:
        DataError: as ``read_json``, or there is no list.
    """
    value = read_json(path)
    for key in keys:
        value = fields.get(value, key)
    if not isinstance(value, list):
        raise DataError(f"holds {type(value).__name__}, expected a list of rows")
    return value


def parse_rows(file: Path, parse: Parse[T], *keys: str, where: str, reader: str) -> Iterator[T | Quarantined]:
    """What ``parse`` makes of each row of a JSON file.

    Args:
        file: a list of rows, or objects around one.
        parse: called for each row.
        *keys: lead to the list in the JSON value.
        where: name of the file in a quarantine row.
        reader: likewise.
    """
    try:
        rows = read_rows(file, *keys)
    except DataError as error:
        yield Quarantined(where, reader, str(error))
        return
    yield from parse_each(rows, parse, where=f"{where}, row", reader=reader)


def parse_lines(file: Path, parse: Parse[T], *, reader: str) -> Iterator[T | Quarantined]:
    """What ``parse`` makes of each line of a JSONL file."""
    return parse_each(read_lines(file), parse, where=f"{file.name}, line", reader=reader)


def parse_each(rows: Iterable[Any], parse: Parse[T], *, where: str, reader: str) -> Iterator[T | Quarantined]:
    """What ``parse`` makes of each of ``rows``, or the reason why it cannot."""
    for number, row in enumerate(rows):
        try:
            if isinstance(row, DataError):
                raise row
            parsed = parse(number, row)
        except DataError as error:
            yield Quarantined(f"{where} {number}", reader, str(error))
        else:
            if parsed is not None:
                yield parsed


def group_by_image(
    questions: Iterable[tuple[str, Turn] | Quarantined], build: Callable[[str, tuple[Turn, ...]], FileRecord]
) -> FileEntries:
    """One record per image, in the order in which ``questions`` first name it.

    Args:
        questions: each with the name of its image; quarantined rows among them come first.
        build: makes the record of an image's name and questions.
    """
    images: dict[str, list[Turn]] = {}
    for item in questions:
        if isinstance(item, Quarantined):
            yield item
        else:
            images.setdefault(item[0], []).append(item[1])
    yield from (build(name, tuple(turns)) for name, turns in images.items())


def inside(root: Path, name: str) -> Path:
    """``root/name``, for a name from an annotation.

    Raises:
        DataError: it names no file, or its path leaves ``root``, possibly through a link.
    """
    path = root / name
    if "\0" in name or not Path(name).name:
        raise DataError(f"path {name!r} is not a file name")
    try:
        resolved = path.resolve()
        path.exists()  # refuses a name that is too long
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, which Python 3.13 no longer minds
        raise DataError(f"path {name!r} leads nowhere ({error})") from error
    if not resolved.is_relative_to(root.resolve()):
        raise DataError(f"path {name!r} leaves the data set's folder")
    return path
