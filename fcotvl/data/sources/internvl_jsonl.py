r"""JSONL as Qwen-VL's and InternVL's evaluation and training read it.

A line of ``docvqa/val.jsonl``: {"image": "data/docvqa/val/documents/nkbl0226_1.png", "question":
"Where is the university located ?", "question_id": 24581, "answer": ["san diego", "San Diego"]}. A
training line has a conversation: {"image": "...", "conversations": [{"from": "human", "value":
"<image>\nWhat is the date?"}, {"from": "gpt", "value": "March 27, 1984"}]}.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data.annotations import existing, inside, read_lines, text, texts
from fcotvl.data.lazy_records import FileDraft, Quarantined, Request

TAILS = (
    "\nAnswer the question using a single word or phrase.",
    " Answer the question using a single word or phrase.",
)
"""Prompt tails that a scale's own prompt replaces."""

Row = tuple[str, tuple[Turn, ...]]
"""An image's name and its questions."""


def read(
    request: Request,
    *,
    file: str,
    source: str,
    images: str = ".",
    kind: str = "extractive",
) -> Iterator[FileDraft | Quarantined]:
    """Images with their questions; neighbouring lines about one image are one record.

    Args:
        request: what is asked for.
        file: the JSONL file, relative to ``data.raw``.
        source: what the records call their source.
        images: what the images' paths are relative to, below ``data.raw``.
        kind: of the questions.

    Raises:
        DataError: there is no such file or folder.
    """
    path = existing(request.raw, file, "internvl-jsonl")
    return _records(path, existing(request.raw, images, "internvl-jsonl"), source, kind)


def _records(path: Path, root: Path, source: str, kind: str) -> Iterator[FileDraft | Quarantined]:
    name = f"{source}-{path.stem}"
    for image, group in groupby(_parsed(path, root, name, kind), _image_of):
        if image is None:
            yield from (item for item in group if isinstance(item, Quarantined))
            continue
        rows = [item for item in group if not isinstance(item, Quarantined)]
        turns = tuple(turn for _, questions in rows for turn in questions)
        yield FileDraft(
            id=turns[0].id,
            reader="internvl-jsonl",
            source=source,
            image=root / image,
            file=image,
            turns=turns,
        )


def _image_of(item: Row | Quarantined) -> str | None:
    return None if isinstance(item, Quarantined) else item[0]


def _parsed(path: Path, root: Path, name: str, kind: str) -> Iterator[Row | Quarantined]:
    for number, line in enumerate(read_lines(path)):
        try:
            if isinstance(line, DataError):
                raise line
            image = text(line, "image")
            inside(root, image)
            yield image, tuple(_turns(line, f"{name}-{number}", kind))
        except DataError as error:
            yield Quarantined(f"{path.name}, line {number}", "internvl-jsonl", str(error))


def _turns(line: dict[str, Any], name: str, kind: str) -> Iterator[Turn]:
    if "conversations" not in line:
        answers = texts(line, "answer") if line.get("answer") is not None else ()
        yield Turn(name, text(line, "question"), answers, kind)
        return
    said = line["conversations"]
    if not isinstance(said, list) or len(said) % 2:
        raise DataError("conversations is no list of questions and replies in turns")
    for number in range(0, len(said), 2):
        question = text(said[number], "value").replace("<image>", "").strip()
        for tail in TAILS:
            question = question.removesuffix(tail)
        yield Turn(f"{name}-{number // 2}", question, texts(said[number + 1], "value"), kind)
