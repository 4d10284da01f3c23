"""DocVQA (arXiv 2007.00398) as the Robust Reading Competition ships it; for research.

One of its rows: {"questionId": 24581, "question": "Where is the university located ?", "image":
"documents/nkbl0226_1.png", "answers": ["san diego", "San Diego"], ...}. Both headers are read (with and without
``question_types``), images in ``documents/`` or ``spdocvqa_images/``. The answers of the test split are hidden.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fcotvl.core.records import Turn
from fcotvl.data import fields
from fcotvl.data.annotations import existing, first_existing, group_by_image, inside, parse_rows
from fcotvl.data.lazy_records import FileEntries, FileRecord, Request


def read(request: Request, *, folder: str = "DocVQA", split: str) -> FileEntries:
    """Pages with their questions, in the order of the annotation file."""
    root = existing(request.raw, folder, "docvqa")
    names = [f"{split}_v1.0{suffix}.json" for suffix in ("_withQT", "")]
    places = [f"{place}{name}" for name in names for place in (f"{split}/", "spdocvqa_qas/", "")]
    file = first_existing(root, places, "docvqa")
    folders = [f"{split}/documents", "spdocvqa_images", "documents"]
    images = first_existing(root, folders, f"docvqa {split}")

    def parse(_number: int, row: Any) -> tuple[str, Turn]:
        name = fields.text(row, "image").removeprefix("documents/")
        inside(images, name)
        answers = fields.texts(row, "answers") if "answers" in row else ()
        turn_id = f"docvqa-{split}-{fields.integer(row, 'questionId')}"
        return name, Turn(turn_id, fields.text(row, "question"), answers, "extractive")

    def build(name: str, turns: tuple[Turn, ...]) -> FileRecord:
        record_id, shown = f"docvqa-{split}-{Path(name).stem}", f"DocVQA/{images.name}/{name}"
        return FileRecord(record_id, "docvqa", "docvqa", images / name, shown, turns)

    where = f"DocVQA/{file.name}"
    return group_by_image(parse_rows(file, parse, "data", where=where, reader="docvqa"), build)
