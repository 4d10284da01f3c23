"""ChartQA (arXiv 2203.10244) in its official layout; GPL-3.0.

One row of ``test_human.json``: {"imgname": "41810321001157.png", "query": "How many bars are shown
in the chart?", "label": "3"}. Questions by people (``chartqa/human``) are mostly to work out,
generated ones (``chartqa/augmented``) mostly to look up: that is the kind they get here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, zip_longest
from pathlib import Path

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data.annotations import existing, first_of, inside, read_rows, text
from fcotvl.data.lazy_records import FileDraft, Quarantined, Request

HALVES = {"human": "reason", "augmented": "extractive"}
"""Each annotation file and the kind of its questions."""

Found = FileDraft | Quarantined


Thoughts = Mapping[tuple[str, str, str], str]
"""Chains of thought by image, question and answer."""


def read(
    request: Request,
    *,
    folder: str = "ChartQA/ChartQA Dataset",
    split: str,
    rationales: str = "",
) -> Iterator[Found]:
    """Charts with their questions, from the two annotation files in turns.

    Args:
        request: what is asked for.
        folder: below ``data.raw``.
        split: of the data set.
        rationales: a JSON list of {"image", "question", "think", "answer"} below ``data.raw``; a
            chain of thought is taken where it ends in the label.

    Raises:
        DataError: the folder, its images, both annotation files or the rationales are missing.
    """
    root = first_of(existing(request.raw, folder, "chartqa"), [split], "chartqa")
    first_of(root, ["png"], "chartqa")
    files = {half: root / f"{split}_{half}.json" for half in HALVES}
    if not any(file.is_file() for file in files.values()):
        names = " or ".join(file.name for file in files.values())
        raise DataError(f"chartqa: {root} has no {names}; expected the official layout")
    thoughts, bad = _thoughts(request.raw, rationales)
    halves = [_half(root, half, file, thoughts) for half, file in files.items() if file.is_file()]
    mixed = (found for group in zip_longest(*halves) for found in group if found is not None)
    return chain(bad, mixed)


def _thoughts(raw: Path, name: str) -> tuple[Thoughts, list[Quarantined]]:
    if not name:
        return {}, []
    file = first_of(raw, [name], "chartqa rationales")
    try:
        rows = read_rows(file)
    except DataError as error:
        return {}, [Quarantined(name, "chartqa", str(error))]
    thoughts, bad = {}, []
    for number, row in enumerate(rows):
        try:
            key = (text(row, "image"), text(row, "question"), text(row, "answer"))
            thoughts[key] = text(row, "think")
        except DataError as error:
            bad.append(Quarantined(f"{name}, row {number}", "chartqa", str(error)))
    return thoughts, bad


def _half(root: Path, half: str, file: Path, thoughts: Thoughts) -> Iterator[Found]:
    """One record per chart, in the order in which the file first names it."""
    where = f"{root.parent.name}/{root.name}"
    try:
        rows = read_rows(file)
    except DataError as error:
        yield Quarantined(f"{where}/{file.name}", "chartqa", str(error))
        return
    charts: dict[str, list[Turn]] = {}
    for number, row in enumerate(rows):
        try:
            name, question, label = text(row, "imgname"), text(row, "query"), text(row, "label")
            inside(root / "png", name)
        except DataError as error:
            yield Quarantined(f"{where}/{file.name}, row {number}", "chartqa", str(error))
            continue
        thought = thoughts.get((name, question, label))
        turn_id = f"chartqa-{root.name}-{half}-{number}"
        turn = Turn(turn_id, question, (label,), HALVES[half], thought)
        charts.setdefault(name, []).append(turn)
    for name, turns in charts.items():
        yield FileDraft(
            id=f"chartqa-{root.name}-{half}-{Path(name).stem}",
            reader="chartqa",
            source=f"chartqa/{half}",
            image=root / "png" / name,
            file=f"{where}/png/{name}",
            turns=tuple(turns),
        )
