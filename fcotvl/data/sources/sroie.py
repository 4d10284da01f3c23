"""SROIE (ICDAR 2019): scanned receipts; CC BY 4.0.

One of its entity files: {"company": "INDAH GIFT & HOME DECO", "date": "19/10/2018", "address": "27, JALAN DEDAP 13,
...", "total": "60.30"}; one line of a box file: "76,50,323,50,323,84,76,84,TAN WOON YANN". Each entity becomes a
question, and all lines together another.
"""

from pathlib import Path

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data.annotations import existing, first_existing, inside, read_json, read_text
from fcotvl.data.lazy_records import FileEntries, FileRecord, Quarantined, Request
from fcotvl.data.ocr_tasks import key_information, transcription

KEYS = ("company", "date", "address", "total")
CORNERS = 8
"""Numbers before the text of a line; the text may hold commas too."""


def read(request: Request, *, folder: str = "SROIE2019", split: str) -> FileEntries:
    """Receipts with their entities and their text, by name.

    Where one file of a receipt is damaged it is quarantined, and the content of the other is kept.
    """
    root = existing(request.raw, folder, "sroie")
    receipts = first_existing(root, [split], "sroie")
    for part in ("img", "box", "entities"):
        first_existing(receipts, [part], "sroie")
    return _receipts(receipts, split)


def _receipts(folder: Path, split: str) -> FileEntries:
    for image in sorted(folder.glob("img/*.jpg")):
        key = f"sroie-{split}-{image.stem}"
        turns: list[Turn] = []
        for part, parse in (("entities", _entities), ("box", _text)):
            file = folder / part / f"{image.stem}.txt"
            try:
                turns += parse(key, inside(file.parent, file.name))
            except DataError as error:
                yield Quarantined(f"{folder.name}/{part}/{file.name}", "sroie", str(error))
        if turns:
            yield _receipt(key, image, f"{folder.name}/img/{image.name}", tuple(turns))


def _receipt(key: str, image: Path, shown: str, turns: tuple[Turn, ...]) -> FileRecord | Quarantined:
    try:
        return FileRecord(key, "sroie", "sroie", inside(image.parent, image.name), shown, turns)
    except DataError as error:
        return Quarantined(shown, "sroie", str(error))


def _entities(name: str, file: Path) -> list[Turn]:
    found = read_json(file)
    if not isinstance(found, dict):
        raise DataError(f"holds {type(found).__name__}, expected an object")
    asked = [key_information(f"{name}-{key}", key, str(found.get(key, ""))) for key in KEYS]
    if not any(asked):
        raise DataError(f"none of {', '.join(KEYS)} is given")
    return [turn for turn in asked if turn is not None]


def _text(name: str, file: Path) -> list[Turn]:
    lines = [line.split(",", CORNERS) for line in read_text(file).splitlines() if line.strip()]
    if short := [line for line in lines if len(line) <= CORNERS]:
        raise DataError(f"line {','.join(short[0])!r} has no text after {CORNERS} numbers")
    turn = transcription(f"{name}-text", [line[CORNERS] for line in lines])
    return [] if turn is None else [turn]
