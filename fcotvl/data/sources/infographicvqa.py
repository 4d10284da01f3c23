"""InfographicVQA (arXiv 2104.12756) as the Robust Reading Competition ships it; for research.

One of its rows: {"questionId": 65718, "question": "When was lithography invented?", "image_local_name": "37313.jpeg",
"answers": ["1796"], "operation/reasoning": [], ...}. Its files are called infographicVQA and infographicsVQA. The
answers of the test split are hidden.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fcotvl.core.records import Turn
from fcotvl.data import fields
from fcotvl.data.annotations import existing, first_existing, group_by_image, inside, parse_rows
from fcotvl.data.lazy_records import FileEntries, FileRecord, Request

REASONING = "operation/reasoning"
"""A row that lists something here has an answer to be worked out."""


def read(request: Request, *, folder: str = "InfographicVQA", split: str) -> FileEntries:
    """Infographics with their questions, in the order of the annotation file."""
    root = existing(request.raw, folder, "infographicvqa")
    files = [
        f"{place}{name}_{split}_v1.0{suffix}.json"
        for suffix in ("_withQT", "")
        for name in ("infographicsVQA", "infographicVQA")
        for place in ("", "infographicsvqa_qas/")
    ]
    file = first_existing(root, files, "infographicvqa")
    folders = ["infographicsvqa_images", f"infographicVQA_{split}_v1.0_images"]
    images = first_existing(root, folders, "infographicvqa")

    def parse(_number: int, row: Any) -> tuple[str, Turn]:
        name = fields.text(row, "image_local_name")
        inside(images, name)
        answers = fields.texts(row, "answers") if "answers" in row else ()
        kind = "reason" if row.get(REASONING) else "extractive"
        turn_id = f"infographicvqa-{split}-{fields.integer(row, 'questionId')}"
        return name, Turn(turn_id, fields.text(row, "question"), answers, kind)

    def build(name: str, turns: tuple[Turn, ...]) -> FileRecord:
        record_id = f"infographicvqa-{split}-{Path(name).stem}"
        shown = f"InfographicVQA/{images.name}/{name}"
        return FileRecord(record_id, "infographicvqa", "infographicvqa", images / name, shown, turns)

    where = f"InfographicVQA/{file.name}"
    parsed = parse_rows(file, parse, "data", where=where, reader="infographicvqa")
    return group_by_image(parsed, build)
