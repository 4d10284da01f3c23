"""WildReceipt (arXiv 2103.14470), in MMOCR's layout: photographed receipts; Apache-2.0.

One of its lines, shortened: {"file_name": "image_files/Image_16/11/1.jpeg", "height": 1200,
"width": 1600, "annotations": [{"box": [550.0, 190.0, ...], "text": "SAFEWAY", "label": 1}, ...]};
``class_list.txt`` names the labels: "1 Store_name_value". What belongs to a value is asked for by
its name, the lines all together.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data.annotations import existing, first_of, inside, integer, read_lines, read_text, text
from fcotvl.data.lazy_records import FileDraft, Quarantined, Request
from fcotvl.data.ocr_tasks import key_information, transcription

VALUE = "_value"
"""How the names of labels end that are worth asking for."""


def read(
    request: Request, *, folder: str = "wildreceipt", annotations: str = "train.txt"
) -> Iterator[FileDraft | Quarantined]:
    """Receipts with their fields and their text, in the order of the annotation file.

    Raises:
        DataError: the folder or its files are missing, or the list of labels is damaged.
    """
    root = existing(request.raw, folder, "wildreceipt")
    names = _names(first_of(root, ["class_list.txt"], "wildreceipt"))
    return _receipts(first_of(root, [annotations], "wildreceipt"), names)


def _names(file: Path) -> dict[int, str]:
    try:
        rows = [line.split() for line in read_text(file).splitlines() if line.strip()]
        return {int(number): name for number, name in rows}
    except (DataError, ValueError) as error:
        raise DataError(f"{file} is no list of numbers and names ({error})") from error


def _receipts(file: Path, names: dict[int, str]) -> Iterator[FileDraft | Quarantined]:
    for number, line in enumerate(read_lines(file)):
        try:
            if isinstance(line, DataError):
                raise line
            name = text(line, "file_name")
            image = inside(file.parent, name)
            if not image.exists():  # some copies keep the paths of where they were copied from
                image = file.parent / Path(name).name
            key = f"wildreceipt-{Path(name).with_suffix('')}"
            turns = _turns(key, line, names)
        except DataError as error:
            yield Quarantined(f"{file.name}, line {number}", "wildreceipt", str(error))
            continue
        yield FileDraft(key, "wildreceipt", "wildreceipt", image, name, turns)


def _turns(key: str, line: Any, names: dict[int, str]) -> tuple[Turn, ...]:
    found = line.get("annotations")
    if not isinstance(found, list):
        raise DataError(f"annotations is {type(found).__name__}, expected a list")
    lines: list[str] = []
    fields: dict[str, list[str]] = {}
    for one in found:
        if isinstance(one, dict) and one.get("text") == "":
            continue
        lines.append(text(one, "text"))
        if (number := integer(one, "label")) not in names:
            raise DataError(f"label {number} is not in the list of labels")
        if names[number].endswith(VALUE):
            fields.setdefault(names[number].removesuffix(VALUE), []).append(lines[-1])
    asked = [
        key_information(f"{key}-{name}", name.replace("_", " ").lower(), " ".join(parts))
        for name, parts in fields.items()
    ]
    turns = tuple(turn for turn in (*asked, transcription(f"{key}-text", lines)) if turn)
    if not turns:
        raise DataError("there is no text, or too much to learn")
    return turns
