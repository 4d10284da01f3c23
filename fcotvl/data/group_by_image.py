"""Rows of annotations, one question each, brought together by their image."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data.lazy_records import Quarantined

Parse = Callable[[int, object], tuple[str, Turn]]
"""Number and content of a row -> its image's name and its question."""
Grouped = dict[str, list[Turn]]


def by_image(
    rows: Iterable[object], parse: Parse, *, where: str, reader: str
) -> tuple[Grouped, list[Quarantined]]:
    """The questions of each image in the order of the rows, and the rows that could not be read.

    Args:
        rows: as the file has them.
        parse: raises ``DataError`` for a row that is not as it should be.
        where: the file, as a quarantine row should name it.
        reader: likewise.
    """
    images: Grouped = {}
    bad = []
    for number, row in enumerate(rows):
        try:
            name, turn = parse(number, row)
        except DataError as error:
            bad.append(Quarantined(f"{where}, row {number}", reader, str(error)))
        else:
            images.setdefault(name, []).append(turn)
    return images, bad
