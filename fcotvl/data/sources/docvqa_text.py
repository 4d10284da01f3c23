"""The OCR text of DocVQA pages in SQuAD's format, as something to read aloud.

One of its rows: {"context": "itc limited report and accounts 2013 ...", "qas": [{"id": 57349,
"question": "What is the name of the company?", ...}]}. A row names no image: its questions' ids
lead to the page through the official annotation file. The text is in lower case there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fcotvl.core.errors import DataError
from fcotvl.data.annotations import existing, first_of, inside, integer, read_rows, text
from fcotvl.data.lazy_records import FileDraft, Quarantined, Request
from fcotvl.data.ocr_tasks import transcription


def read(
    request: Request, *, folder: str = "DocVQA", split: str
) -> Iterator[FileDraft | Quarantined]:
    """Pages with their text.

    Raises:
        DataError: the folder, an annotation file or the images are missing.
    """
    root = existing(request.raw, folder, "docvqa-text")
    names = [f"docvqa_{split}_squad_format.json"]
    texts = first_of(root, [f"{split}/{names[0]}", names[0]], "docvqa-text")
    questions = first_of(
        root,
        [f"{place}{split}_v1.0{t}.json" for t in ("_withQT", "") for place in (f"{split}/", "")],
        "docvqa-text",
    )
    images = first_of(root, [f"{split}/documents", "spdocvqa_images", "documents"], "docvqa-text")
    return _pages(texts, questions, images, split)


def _pages(
    file: Path, questions: Path, images: Path, split: str
) -> Iterator[FileDraft | Quarantined]:
    where = f"DocVQA/{file.name}"
    try:
        pages = {
            integer(row, "questionId"): text(row, "image").removeprefix("documents/")
            for row in read_rows(questions, "data")
        }
        rows = read_rows(file)
    except DataError as error:
        yield Quarantined(where, "docvqa-text", str(error))
        return
    for number, row in enumerate(rows):
        try:
            yield _page(row, pages, images, split)
        except DataError as error:
            yield Quarantined(f"{where}, row {number}", "docvqa-text", str(error))


def _page(row: object, pages: dict[int, str], images: Path, split: str) -> FileDraft:
    context = text(row, "context")
    asked = row["qas"] if isinstance(row, dict) and isinstance(row.get("qas"), list) else []
    names = {pages[number] for item in asked if (number := integer(item, "id")) in pages}
    if len(names) != 1:
        raise DataError(f"its questions belong to {len(names)} pages, expected one")
    name = names.pop()
    turn = transcription(f"docvqa-text-{split}-{Path(name).stem}", [context])
    if turn is None:
        raise DataError(f"the text has {len(context)} characters, too many for a reply")
    return FileDraft(
        id=turn.id,
        reader="docvqa-text",
        source="docvqa/text",
        image=inside(images, name),
        file=f"DocVQA/{images.name}/{name}",
        turns=(turn,),
    )
