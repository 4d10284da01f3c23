"""MDPBench, photographed documents in many languages, in OmniDocBench's layout; MIT.

One of its rows, shortened: {"layout_dets": [{"category_type": "title", "order": 0, "text": "..."},
{"category_type": "header", "order": null, "text": "..."}, ...], "page_info": {"image_path":
"vi_exampaper_3.png"}, "extra": {}}. Text that has a place in the reading order is asked for as a
whole. This is a benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data.annotations import existing, first_of, inside, integer, read_rows, text
from fcotvl.data.lazy_records import FileDraft, Quarantined, Request
from fcotvl.data.ocr_tasks import transcription


def read(
    request: Request,
    *,
    folder: str = "MDPBench",
    annotations: str = "MDPBench.json",
    images: str = "images",
) -> Iterator[FileDraft | Quarantined]:
    """Pages with their text in reading order, in the order of the annotation file.

    Args:
        request: what is asked for.
        folder: below ``data.raw``.
        annotations: the JSON file, relative to ``folder``.
        images: folder of the images, relative to ``folder``.

    Raises:
        DataError: the folder, its annotation file or its images are missing.
    """
    root = existing(request.raw, folder, "mdpbench")
    return _pages(first_of(root, [annotations], "mdpbench"), first_of(root, [images], "mdpbench"))


def _pages(file: Path, images: Path) -> Iterator[FileDraft | Quarantined]:
    try:
        rows = read_rows(file)
    except DataError as error:
        yield Quarantined(f"MDPBench/{file.name}", "mdpbench", str(error))
        return
    for number, row in enumerate(rows):
        try:
            page = row.get("page_info") if isinstance(row, dict) else None
            name = text(page, "image_path")
            image = inside(images, name)
            key = f"mdpbench-{Path(name).with_suffix('')}"
            turn = _turn(f"{key}-text", row.get("layout_dets"))
        except DataError as error:
            yield Quarantined(f"MDPBench/{file.name}, row {number}", "mdpbench", str(error))
            continue
        yield FileDraft(key, "mdpbench", "mdpbench", image, f"MDPBench/{name}", (turn,))


def _turn(name: str, parts: object) -> Turn:
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise DataError(f"layout_dets is {type(parts).__name__}, expected a list of objects")
    placed = [part for part in parts if part.get("order") is not None and "text" in part]
    placed.sort(key=lambda part: integer(part, "order"))
    turn = transcription(
        name, [line for part in placed for line in text(part, "text").splitlines()]
    )
    if turn is None:
        raise DataError("there is no text in reading order, or too much to learn")
    return turn
