"""ChartQA (arXiv 2203.10244) in its official layout; GPL-3.0.

One row of ``test_human.json``: {"imgname": "41810321001157.png", "query": "How many bars are shown
in the chart?", "label": "3"}. Questions by people (``chartqa/human``) are mostly to work out,
generated ones (``chartqa/augmented``) mostly to look up: that is the kind they get here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from fcotvl.data.annotations import existing, inside, read_rows, text
from fcotvl.data.drafts import FileDraft, Quarantined, Request
from fcotvl.errors import DataError
from fcotvl.records import Turn

HALVES = {"human": "reason", "augmented": "extractive"}
"""Each annotation file and the kind of its questions."""

Found = FileDraft | Quarantined


def read(
    request: Request, *, folder: str = "ChartQA/ChartQA Dataset", split: str
) -> Iterator[Found]:
    """Charts with their questions, from the two annotation files in turns.

    Raises:
        DataError: the folder, its images or both annotation files are missing.
    """
    root = existing(request.raw, f"{folder}/{split}", "chartqa")
    existing(root, "png", "chartqa")
    files = {half: root / f"{split}_{half}.json" for half in HALVES}
    if not any(file.is_file() for file in files.values()):
        names = " or ".join(file.name for file in files.values())
        raise DataError(f"chartqa: {root} has no {names}; expected the official layout")
    halves = [_half(root, half, file) for half, file in files.items() if file.is_file()]
    return (found for group in zip_longest(*halves) for found in group if found is not None)


def _half(root: Path, half: str, file: Path) -> Iterator[Found]:
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
        turn = Turn(f"chartqa-{root.name}-{half}-{number}", question, (label,), HALVES[half])
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
