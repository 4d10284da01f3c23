"""PubTabNet (arXiv 1911.10683) and what has its format, such as FinTabNet: tables with their HTML.

One of its lines, shortened: {"filename": "PMC4840965_004_00.png", "split": "train", "imgid": 0, "html": {"structure":
{"tokens": ["<thead>", "<tr>", "<td>", "</td>", ...]}, "cells": [{"tokens": ["<b>", "A", "g", "e", "</b>"], "bbox": [1,
4, 27, 13]}, {"tokens": []}, ...]}}. Its licence is CDLA-Permissive-1.0.
"""

from pathlib import Path
from typing import Any

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data import fields
from fcotvl.data.annotations import existing, first_existing, inside, parse_lines
from fcotvl.data.lazy_records import FileEntries, FileRecord, Request
from fcotvl.data.ocr_tasks import table


def read(
    request: Request,
    *,
    folder: str = "PubTabNet",
    annotations: str = "PubTabNet_2.0.0.jsonl",
    images: str = "",
    split: str = "train",
) -> FileEntries:
    """Tables of one split, to be written as Markdown or, where cells span others, as HTML."""
    root = existing(request.raw, folder, "pubtabnet")
    file = first_existing(root, [annotations], "pubtabnet")
    pictures = first_existing(root, [images or "."], "pubtabnet")

    def parse(_number: int, line: Any) -> FileRecord | None:
        if fields.text(line, "split") != split:
            return None
        name = fields.text(line, "filename")
        image, shown = inside(pictures, name), f"{pictures.name}/{name}"
        turn = _turn(f"pubtabnet-{split}-{Path(name).stem}", line)
        return FileRecord(turn.id, "pubtabnet", "pubtabnet", image, shown, (turn,))

    return parse_lines(file, parse, reader="pubtabnet")


def _turn(name: str, line: Any) -> Turn:
    try:
        structure = [str(token) for token in line["html"]["structure"]["tokens"]]
        cells = ["".join(cell["tokens"]) for cell in line["html"]["cells"]]
        return table(name, structure, cells)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"malformed HTML: {error!r}") from error
