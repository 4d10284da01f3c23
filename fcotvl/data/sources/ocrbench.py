"""OCRBench (arXiv 2305.07895): 1,000 short questions on text in images, from many data sets; MIT.

One of its rows: {"dataset_name": "ChartQA", "id": 10, "image_path":
"ChartQA/test/png/multi_col_852.png", "question": "Who is predicted to have the highest gross profit
margin?", "answers": "Ted Baker", "type": "Doc-oriented VQA"}. ``answers`` is a text or a list. This
is a benchmark: its images are those of test splits.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data.annotations import existing, first_of, inside, integer, read_rows, text, texts
from fcotvl.data.group_by_image import by_image
from fcotvl.data.lazy_records import FileDraft, Quarantined, Request


def read(
    request: Request, *, folder: str = "OCRBench", annotations: str = "OCRBench.json"
) -> Iterator[FileDraft | Quarantined]:
    """Images with their questions, in the order of the annotation file.

    Raises:
        DataError: the folder, its annotation file or its images are missing.
    """
    root = existing(request.raw, folder, "ocrbench")
    file = first_of(root, [annotations], "ocrbench")
    return _images(file, first_of(root, ["OCRBench_Images"], "ocrbench"))


def _images(file: Path, images: Path) -> Iterator[FileDraft | Quarantined]:
    where = f"OCRBench/{file.name}"
    try:
        rows = read_rows(file)
    except DataError as error:
        yield Quarantined(where, "ocrbench", str(error))
        return

    def parse(_number: int, row: object) -> tuple[str, Turn]:
        name = text(row, "image_path")
        inside(images, name)
        turn_id = f"ocrbench-{integer(row, 'id')}"
        return name, Turn(turn_id, text(row, "question"), texts(row, "answers"), "extractive")

    found, bad = by_image(rows, parse, where=where, reader="ocrbench")
    yield from bad
    for name, turns in found.items():
        yield FileDraft(
            id=f"ocrbench-{Path(name).with_suffix('')}",
            reader="ocrbench",
            source="ocrbench",
            image=images / name,
            file=f"OCRBench/{images.name}/{name}",
            turns=tuple(turns),
        )
