"""PubTabNet (arXiv 1911.10683) and what has its format, such as FinTabNet: tables with their HTML.

One of its lines, shortened: {"filename": "PMC4840965_004_00.png", "split": "train", "imgid": 0,
"html": {"structure": {"tokens": ["<thead>", "<tr>", "<td>", "</td>", ...]}, "cells": [{"tokens":
["<b>", "A", "g", "e", "</b>"], "bbox": [1, 4, 27, 13]}, {"tokens": []}, ...]}}. Its licence is
CDLA-Permissive-1.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data.annotations import existing, first_of, inside, read_lines, text
from fcotvl.data.lazy_records import FileDraft, Quarantined, Request
from fcotvl.data.ocr_tasks import table

_TAG = re.compile(r"</?(b|i|sup|sub|u|strike|overline|underline)>")


def read(
    request: Request,
    *,
    folder: str = "PubTabNet",
    annotations: str = "PubTabNet_2.0.0.jsonl",
    images: str = "",
    split: str = "train",
) -> Iterator[FileDraft | Quarantined]:
    """Tables of one split, asked for as Markdown or, where cells span others, as HTML.

    Args:
        request: what is asked for.
        folder: below ``data.raw``.
        annotations: the JSONL file, relative to ``folder``.
        images: folder of the images, relative to ``folder``.
        split: rows of other splits are passed over.

    Raises:
        DataError: the folder, its annotation file or its images are missing.
    """
    root = existing(request.raw, folder, "pubtabnet")
    file = first_of(root, [annotations], "pubtabnet")
    return _tables(file, first_of(root, [images or "."], "pubtabnet"), split)


def _tables(file: Path, images: Path, split: str) -> Iterator[FileDraft | Quarantined]:
    for number, line in enumerate(read_lines(file)):
        try:
            if isinstance(line, DataError):
                raise line
            if text(line, "split") != split:
                continue
            name = text(line, "filename")
            image = inside(images, name)
            turn_id = f"pubtabnet-{split}-{Path(name).stem}"
            turn = _turn(turn_id, line)
        except DataError as error:
            yield Quarantined(f"{file.name}, line {number}", "pubtabnet", str(error))
            continue
        yield FileDraft(
            id=turn_id,
            reader="pubtabnet",
            source="pubtabnet",
            image=image,
            file=f"{images.name}/{name}",
            turns=(turn,),
        )


def _turn(name: str, line: Any) -> Turn:
    try:
        structure = [str(token) for token in line["html"]["structure"]["tokens"]]
        cells = ["".join(cell["tokens"]) for cell in line["html"]["cells"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"html is not as it should be ({error!r})") from error
    try:
        return table(name, structure, [_TAG.sub("", cell).strip() for cell in cells])
    except (ValueError, IndexError) as error:
        raise DataError(f"html: {error}") from error
