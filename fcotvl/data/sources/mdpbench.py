"""MDPBench, photographed documents in many languages, in OmniDocBench's layout; MIT.

One of its rows, shortened: {"layout_dets": [{"category_type": "title", "order": 0, "text": "..."}, {"category_type":
"header", "order": null, "text": "..."}, ...], "page_info": {"image_path": "vi_exampaper_3.png"}, "extra": {}}. The
question asks for all text that has a place in the reading order. This is a benchmark.
"""

from pathlib import Path
from typing import Any

from fcotvl.core.errors import DataError
from fcotvl.data import fields
from fcotvl.data.annotations import existing, first_existing, inside, parse_rows
from fcotvl.data.lazy_records import FileEntries, FileRecord, Request
from fcotvl.data.ocr_tasks import required_transcription


def read(
    request: Request, *, folder: str = "MDPBench", annotations: str = "MDPBench.json", images: str = "images"
) -> FileEntries:
    """Pages with their text in reading order, in the order of the annotation file."""
    root = existing(request.raw, folder, "mdpbench")
    file = first_existing(root, [annotations], "mdpbench")
    pictures = first_existing(root, [images], "mdpbench")

    def parse(_number: int, row: Any) -> FileRecord:
        name = fields.text(row.get("page_info") if isinstance(row, dict) else None, "image_path")
        image = inside(pictures, name)
        key = f"mdpbench-{Path(name).with_suffix('')}"
        parts = [part for part in fields.items(row, "layout_dets") if _is_ordered_text(part)]
        parts.sort(key=lambda part: fields.integer(part, "order"))
        lines = [line for part in parts for line in fields.text_or_empty(part, "text").splitlines()]
        turn = required_transcription(f"{key}-text", lines)
        return FileRecord(key, "mdpbench", "mdpbench", image, f"MDPBench/{name}", (turn,))

    return parse_rows(file, parse, where=f"MDPBench/{file.name}", reader="mdpbench")


def _is_ordered_text(part: Any) -> bool:
    if not isinstance(part, dict):
        raise DataError(f"layout_dets has {type(part).__name__}, expected objects")
    return part.get("order") is not None and "text" in part
