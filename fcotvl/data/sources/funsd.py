"""FUNSD (arXiv 1905.13538): scanned forms; for research and education.

One of its entities: {"id": 4, "box": [59, 320, 119, 337], "text": "COUNTRY:", "label": "question", "linking": [[4, 6]],
...}, linked to {"id": 6, "text": "BELGIUM", "label": "answer", ...}: they make "What is the COUNTRY?" -> ["BELGIUM"].
Another question asks for the whole text.
"""

from pathlib import Path
from typing import Any

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data import fields
from fcotvl.data.annotations import existing, first_existing, inside, read_rows
from fcotvl.data.lazy_records import FileEntries, FileRecord, Quarantined, Request
from fcotvl.data.ocr_tasks import key_information, transcription

SPLITS = {"train": "training_data", "test": "testing_data"}
LINE = 10
"""Pixels, of 1,000: entities whose upper edges fall in one band of this height share a line."""


def read(request: Request, *, folder: str = "FUNSD", split: str) -> FileEntries:
    """Forms with what can be asked about them, by name."""
    root = existing(request.raw, folder, "funsd")
    name = SPLITS.get(split, split)
    forms = first_existing(root, [f"dataset/{name}", name], "funsd")
    for part in ("annotations", "images"):
        first_existing(forms, [part], "funsd")
    return _forms(forms, split)


def _forms(folder: Path, split: str) -> FileEntries:
    for file in sorted((folder / "annotations").glob("*.json")):
        if file.name.startswith("._"):  # AppleDouble: macOS's own notes, not an annotation
            continue
        key, name = f"funsd-{split}-{file.stem}", f"{file.stem}.png"
        try:
            turns = _turns(key, read_rows(inside(folder / "annotations", file.name), "form"))
            image = inside(folder / "images", name)
        except DataError as error:
            where = f"{folder.name}/annotations/{file.name}"
            yield Quarantined(where, "funsd", str(error))
        else:
            shown = f"{folder.name}/images/{name}"
            yield FileRecord(key, "funsd", "funsd", image, shown, turns)


def _turns(name: str, form: list[Any]) -> tuple[Turn, ...]:
    entities = {fields.integer(entity, "id"): entity for entity in form}
    asked = [transcription(f"{name}-text", _lines(form))]
    for number, entity in entities.items():
        if entity.get("label") != "question":
            continue
        linked = [
            str(entities[other].get("text", ""))
            for pair in _pairs(entity)
            for other in pair
            if other in entities and entities[other].get("label") == "answer"
        ]
        key = str(entity.get("text", ""))
        asked.append(key_information(f"{name}-{number}", key, " ".join(linked)))
    turns = tuple(turn for turn in asked if turn is not None)
    if not turns:
        raise DataError("no text and no question linked to an answer")
    return turns


def _pairs(entity: dict[str, Any]) -> list[list[int]]:
    links = fields.items(entity, "linking") if "linking" in entity else []
    pairs = [pair for pair in links if isinstance(pair, list)]
    return [[other for other in pair if isinstance(other, int)] for pair in pairs]


def _lines(form: list[Any]) -> list[str]:
    """The texts from top to bottom, those of one line from left to right."""
    placed = []
    for entity in form:
        box, text = entity.get("box"), entity.get("text")
        is_box = isinstance(box, list) and [isinstance(x, int | float) for x in box] == [True] * 4
        if not isinstance(text, str) or not is_box:
            raise DataError(f"entity {entity.get('id')} has no text or no box")
        placed.append((box[1] // LINE, box[0], text))
    lines: dict[int, list[str]] = {}
    for line, _, text in sorted(placed):
        lines.setdefault(line, []).append(text)
    return [" ".join(texts) for texts in lines.values()]
