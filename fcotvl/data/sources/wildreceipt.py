"""WildReceipt (arXiv 2103.14470), in MMOCR's layout: photographed receipts; no licence is stated.

One of its lines, shortened: {"file_name": "image_files/Image_16/11/1.jpeg", "height": 1200, "width": 1600,
"annotations": [{"box": [550.0, 190.0, ...], "text": "SAFEWAY", "label": 1}, ...]}; ``class_list.txt`` names the labels:
"1 Store_name_value". Each kind of value becomes a question, and all lines together another.
"""

from pathlib import Path
from typing import Any

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data import fields
from fcotvl.data.annotations import existing, first_existing, inside, parse_lines, read_text
from fcotvl.data.lazy_records import FileEntries, FileRecord, Request
from fcotvl.data.ocr_tasks import key_information, transcription

VALUE = "_value"
"""Suffix of the labels that become questions."""


def read(request: Request, *, folder: str = "wildreceipt", annotations: str = "train.txt") -> FileEntries:
    """Receipts with their fields and their text, in the order of the annotation file."""
    root = existing(request.raw, folder, "wildreceipt")
    labels = _labels(first_existing(root, ["class_list.txt"], "wildreceipt"))
    file = first_existing(root, [annotations], "wildreceipt")

    def parse(_number: int, line: Any) -> FileRecord:
        name = fields.text(line, "file_name")
        image = inside(root, name)
        if not image.exists():  # some copies keep the paths of where they were copied from
            image = inside(root, Path(name).name)
        key = f"wildreceipt-{Path(name).with_suffix('')}"
        turns = _turns(key, line, labels)
        return FileRecord(key, "wildreceipt", "wildreceipt", image, name, turns)

    return parse_lines(file, parse, reader="wildreceipt")


def _labels(file: Path) -> dict[int, str]:
    try:
        rows = [line.split() for line in read_text(file).splitlines() if line.strip()]
        return {int(number): name for number, name in rows}
    except (DataError, ValueError) as error:
        raise DataError(f"{file} is not a list of numbers and names ({error})") from error


def _turns(key: str, line: Any, labels: dict[int, str]) -> tuple[Turn, ...]:
    lines: list[str] = []
    values: dict[str, list[str]] = {}
    for one in fields.items(line, "annotations"):
        if not (text := fields.text_or_empty(one, "text")):
            continue
        lines.append(text)
        if (number := fields.integer(one, "label")) not in labels:
            raise DataError(f"label {number} is not in the list of labels")
        if labels[number].endswith(VALUE):
            values.setdefault(labels[number].removesuffix(VALUE), []).append(lines[-1])
    asked = [
        key_information(f"{key}-{name}", name.replace("_", " ").lower(), " ".join(parts))
        for name, parts in values.items()
    ]
    turns = tuple(turn for turn in (*asked, transcription(f"{key}-text", lines)) if turn)
    if not turns:
        raise DataError("no text, or text that is too long for a reply")
    return turns
