"""DocVQA (arXiv 2007.00398) as the Robust Reading Competition ships it; for research.

One of its rows: {"questionId": 24581, "question": "Where is the university located ?", "image":
"documents/nkbl0226_1.png", "answers": ["san diego", "San Diego"], ...}. Both headers are read
(with and without ``question_types``), images in ``documents/`` or ``spdocvqa_images/``. The answers
of the test split are hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data.annotations import existing, first_of, inside, integer, read_rows, text, texts
from fcotvl.data.group_by_image import by_image
from fcotvl.data.lazy_records import FileDraft, Quarantined, Request


def read(
    request: Request, *, folder: str = "DocVQA", split: str
) -> Iterator[FileDraft | Quarantined]:
    """Pages with their questions, in the order of the annotation file.

    Raises:
        DataError: the folder, its annotation file or its images are missing.
    """
    root = existing(request.raw, folder, "docvqa")
    names = [f"{split}_v1.0{tail}.json" for tail in ("_withQT", "")]
    places = [f"{place}{name}" for name in names for place in (f"{split}/", "spdocvqa_qas/", "")]
    file = first_of(root, places, "docvqa")
    images = first_of(
        root, [f"{split}/documents", "spdocvqa_images", "documents"], f"docvqa {split}"
    )
    return _pages(file, images, split)


def _pages(file: Path, images: Path, split: str) -> Iterator[FileDraft | Quarantined]:
    try:
        rows = read_rows(file, "data")
    except DataError as error:
        yield Quarantined(f"DocVQA/{file.name}", "docvqa", str(error))
        return

    def parse(_number: int, row: object) -> tuple[str, Turn]:
        name = text(row, "image").removeprefix("documents/")
        inside(images, name)
        answers = texts(row, "answers") if isinstance(row, dict) and "answers" in row else ()
        number = integer(row, "questionId")
        turn = Turn(f"docvqa-{split}-{number}", text(row, "question"), answers, "extractive")
        return name, turn

    pages, bad = by_image(rows, parse, where=f"DocVQA/{file.name}", reader="docvqa")
    yield from bad
    for name, turns in pages.items():
        yield FileDraft(
            id=f"docvqa-{split}-{Path(name).stem}",
            reader="docvqa",
            source="docvqa",
            image=images / name,
            file=f"DocVQA/{images.name}/{name}",
            turns=tuple(turns),
        )
