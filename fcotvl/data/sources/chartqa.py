"""ChartQA (arXiv 2203.10244) in its official layout; GPL-3.0.

One row of ``test_human.json``: {"imgname": "41810321001157.png", "query": "How many bars are shown in the chart?",
"label": "3"}. Questions by people (``chartqa/human``) are mostly to work out, generated ones (``chartqa/augmented``)
mostly to look up: that is the kind they get here.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data import fields
from fcotvl.data.annotations import existing, first_existing, group_by_image, inside, parse_rows
from fcotvl.data.lazy_records import FileEntries, FileRecord, Quarantined, Request

HALVES = {"human": "reason", "augmented": "extractive"}
"""Each annotation file and the kind of its questions."""
Rationales = Mapping[tuple[str, str, str], str]
"""Chains of thought by image, question and answer."""


def read(request: Request, *, folder: str = "ChartQA/ChartQA Dataset", split: str, rationales: str = "") -> FileEntries:
    """Charts with their questions, alternating between the two annotation files.

    ``rationales`` is a JSON list of {"image", "question", "think", "answer"} below ``data.raw``; a chain of thought is
    taken where it ends in the label.
    """
    root = first_existing(existing(request.raw, folder, "chartqa"), [split], "chartqa")
    first_existing(root, ["png"], "chartqa")
    files = {half: root / f"{split}_{half}.json" for half in HALVES}
    if not any(file.is_file() for file in files.values()):
        names = " or ".join(file.name for file in files.values())
        raise DataError(f"chartqa: {root} has no {names}; expected the official layout")
    known, bad = _rationales(request.raw, rationales)
    halves = [_half(root, half, file, known) for half, file in files.items() if file.is_file()]
    mixed = (entry for group in zip_longest(*halves) for entry in group if entry is not None)
    return chain(bad, mixed)


def _rationales(raw: Path, name: str) -> tuple[Rationales, list[Quarantined]]:
    if not name:
        return {}, []
    file = first_existing(raw, [name], "chartqa rationales")

    def parse(_number: int, row: Any) -> tuple[tuple[str, str, str], str]:
        key = fields.text(row, "image"), fields.text(row, "question"), fields.text(row, "answer")
        return key, fields.text(row, "think")

    parsed = list(parse_rows(file, parse, where=name, reader="chartqa"))
    bad = [item for item in parsed if isinstance(item, Quarantined)]
    return dict(item for item in parsed if not isinstance(item, Quarantined)), bad


def _half(root: Path, half: str, file: Path, rationales: Rationales) -> FileEntries:
    prefix, folder = f"chartqa-{root.name}-{half}", f"{root.parent.name}/{root.name}"

    def parse(number: int, row: Any) -> tuple[str, Turn]:
        name, question, label = (fields.text(row, "imgname"), fields.text(row, "query"), fields.text(row, "label"))
        inside(root / "png", name)
        rationale = rationales.get((name, question, label))
        return name, Turn(f"{prefix}-{number}", question, (label,), HALVES[half], rationale)

    def build(name: str, turns: tuple[Turn, ...]) -> FileRecord:
        record_id, shown = f"{prefix}-{Path(name).stem}", f"{folder}/png/{name}"
        image = root / "png" / name
        return FileRecord(record_id, "chartqa", f"chartqa/{half}", image, shown, turns)

    where = f"{folder}/{file.name}"
    return group_by_image(parse_rows(file, parse, where=where, reader="chartqa"), build)
