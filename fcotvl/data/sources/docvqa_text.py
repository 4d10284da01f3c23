"""The OCR text of DocVQA pages in SQuAD's format, as something to read aloud.

One of its rows: {"context": "itc limited report and accounts 2013 ...", "qas": [{"id": 57349, "question": "What is the
name of the company?", ...}]}. A row names no image: its questions' ids lead to the page through the official annotation
file. The text is in lower case there.
"""

from pathlib import Path
from typing import Any

from fcotvl.core.errors import DataError
from fcotvl.data import fields
from fcotvl.data.annotations import existing, first_existing, inside, parse_rows
from fcotvl.data.lazy_records import FileEntries, FileRecord, Quarantined, Request
from fcotvl.data.ocr_tasks import transcription


def read(request: Request, *, folder: str = "DocVQA", split: str) -> FileEntries:
    """Pages with their text."""
    root = existing(request.raw, folder, "docvqa-text")
    name = f"docvqa_{split}_squad_format.json"
    file = first_existing(root, [f"{split}/{name}", name], "docvqa-text")
    names = [f"{split}_v1.0{suffix}.json" for suffix in ("_withQT", "")]
    places = [f"{place}{name}" for name in names for place in (f"{split}/", "")]
    questions = first_existing(root, places, "docvqa-text")
    folders = [f"{split}/documents", "spdocvqa_images", "documents"]
    images = first_existing(root, folders, "docvqa-text")
    return _pages(file, questions, images, split)


def _pages(file: Path, questions: Path, images: Path, split: str) -> FileEntries:
    def page(_number: int, row: Any) -> tuple[int, str]:
        return fields.integer(row, "questionId"), fields.text(row, "image").removeprefix("documents/")

    asked = list(parse_rows(questions, page, "data", where=f"DocVQA/{questions.name}", reader="docvqa-text"))
    yield from (item for item in asked if isinstance(item, Quarantined))
    pages = dict(item for item in asked if not isinstance(item, Quarantined))

    def parse(_number: int, row: Any) -> FileRecord:
        context = fields.text(row, "context")
        asked = row["qas"] if isinstance(row.get("qas"), list) else []
        names = {pages[number] for item in asked if (number := fields.integer(item, "id")) in pages}
        if len(names) != 1:
            raise DataError(f"its questions belong to {len(names)} pages, expected one")
        name = names.pop()
        turn = transcription(f"docvqa-text-{split}-{Path(name).stem}", [context])
        if turn is None:
            raise DataError(f"the text has {len(context)} characters, too many for a reply")
        image, shown = inside(images, name), f"DocVQA/{images.name}/{name}"
        return FileRecord(turn.id, "docvqa-text", "docvqa/text", image, shown, (turn,))

    yield from parse_rows(file, parse, where=f"DocVQA/{file.name}", reader="docvqa-text")
