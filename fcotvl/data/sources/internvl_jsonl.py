r"""JSONL as Qwen-VL's and InternVL's evaluation and training read it.

A line of ``docvqa/val.jsonl``: {"image": "data/docvqa/val/documents/nkbl0226_1.png", "question": "Where is the
university located ?", "question_id": 24581, "answer": ["san diego", "San Diego"]}. A training line has a conversation:
{"image": "...", "conversations": [{"from": "human", "value": "<image>\nWhat is the date?"}, {"from": "gpt", "value":
"March 27, 1984"}]}.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data import fields
from fcotvl.data.annotations import existing, inside, parse_lines
from fcotvl.data.lazy_records import FileEntries, FileRecord, Quarantined, Request

SUFFIXES = (
    "\nAnswer the question using a single word or phrase.",
    " Answer the question using a single word or phrase.",
)
"""Prompt suffixes that a scale's own prompt replaces."""
Row = tuple[str, tuple[Turn, ...]]
"""An image's name and its questions."""


def read(request: Request, *, file: str, source: str, images: str = ".", kind: str = "extractive") -> FileEntries:
    """Images with their questions; neighbouring lines about one image are one record.

    The JSONL ``file``, and the folder that paths of images are relative to, are below ``data.raw``.
    """
    path = existing(request.raw, file, "internvl-jsonl")
    root = existing(request.raw, images, "internvl-jsonl")

    def parse(number: int, line: Any) -> Row:
        image = fields.text(line, "image")
        inside(root, image)
        return image, tuple(_turns(line, f"{source}-{path.stem}-{number}", kind))

    return _records(parse_lines(path, parse, reader="internvl-jsonl"), root, source)


def _records(rows: Iterator[Row | Quarantined], root: Path, source: str) -> FileEntries:
    for image, group in groupby(rows, lambda row: isinstance(row, tuple) and row[0]):
        turns: tuple[Turn, ...] = ()
        for row in group:
            if isinstance(row, Quarantined):
                yield row
            else:
                turns += row[1]
        if turns:
            name = str(image)
            yield FileRecord(turns[0].id, "internvl-jsonl", source, root / name, name, turns)


def _turns(line: dict[str, Any], name: str, kind: str) -> Iterator[Turn]:
    if "conversations" not in line:
        answers = fields.texts(line, "answer") if line.get("answer") is not None else ()
        yield Turn(name, fields.text(line, "question"), answers, kind)
        return
    messages = line["conversations"]
    if not isinstance(messages, list) or len(messages) % 2:
        raise DataError("conversations is not a list of alternating questions and replies")
    for number in range(0, len(messages), 2):
        question = fields.text(messages[number], "value").replace("<image>", "").strip()
        for suffix in SUFFIXES:
            question = question.removesuffix(suffix)
        yield Turn(f"{name}-{number // 2}", question, fields.texts(messages[number + 1], "value"), kind)
