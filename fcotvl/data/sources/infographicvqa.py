"""InfographicVQA (arXiv 2104.12756) as the Robust Reading Competition ships it; for research.

One of its rows: {"questionId": 65718, "question": "When was lithography invented?",
"image_local_name": "37313.jpeg", "answers": ["1796"], "operation/reasoning": [], ...}. Its files
are called infographicVQA and infographicsVQA. The answers of the test split are hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data.annotations import existing, first_of, inside, integer, read_rows, text, texts
from fcotvl.data.group_by_image import by_image
from fcotvl.data.lazy_records import FileDraft, Quarantined, Request

WORKED = "operation/reasoning"
"""Where a row lists something here, its answer is to be worked out."""


def read(
    request: Request, *, folder: str = "InfographicVQA", split: str
) -> Iterator[FileDraft | Quarantined]:
    """Infographics with their questions, in the order of the annotation file.

    Raises:
        DataError: the folder, its annotation file or its images are missing.
    """
    root = existing(request.raw, folder, "infographicvqa")
    files = [
        f"{place}{name}_{split}_v1.0{tail}.json"
        for tail in ("_withQT", "")
        for name in ("infographicsVQA", "infographicVQA")
        for place in ("", "infographicsvqa_qas/")
    ]
    file = first_of(root, files, "infographicvqa")
    folders = ["infographicsvqa_images", f"infographicVQA_{split}_v1.0_images"]
    return _pages(file, first_of(root, folders, "infographicvqa"), split)


def _pages(file: Path, images: Path, split: str) -> Iterator[FileDraft | Quarantined]:
    where = f"InfographicVQA/{file.name}"
    try:
        rows = read_rows(file, "data")
    except DataError as error:
        yield Quarantined(where, "infographicvqa", str(error))
        return

    def parse(_number: int, row: object) -> tuple[str, Turn]:
        name = text(row, "image_local_name")
        inside(images, name)
        known = row if isinstance(row, dict) else {}
        answers = texts(row, "answers") if "answers" in known else ()
        kind = "reason" if known.get(WORKED) else "extractive"
        number = integer(row, "questionId")
        return name, Turn(f"infographicvqa-{split}-{number}", text(row, "question"), answers, kind)

    pages, bad = by_image(rows, parse, where=where, reader="infographicvqa")
    yield from bad
    for name, turns in pages.items():
        yield FileDraft(
            id=f"infographicvqa-{split}-{Path(name).stem}",
            reader="infographicvqa",
            source="infographicvqa",
            image=images / name,
            file=f"InfographicVQA/{images.name}/{name}",
            turns=tuple(turns),
        )
