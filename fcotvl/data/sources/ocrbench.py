"""OCRBench (arXiv 2305.07895): 1,000 short questions on text in images, from many data sets; MIT.

One of its rows: {"dataset_name": "ChartQA", "id": 10, "image_path": "ChartQA/test/png/multi_col_852.png", "question":
"Who is predicted to have the highest gross profit margin?", "answers": "Ted Baker", "type": "Doc-oriented VQA"}.
``answers`` is a text or a list; those of data set HME100k are formulas. This is a benchmark: its images are those of
test splits.
"""

from pathlib import Path
from typing import Any

from fcotvl.core.records import Turn
from fcotvl.data import fields
from fcotvl.data.annotations import existing, first_existing, group_by_image, inside, parse_rows
from fcotvl.data.lazy_records import FileEntries, FileRecord, Request
from fcotvl.data.ocr_tasks import ocrbench_answers


def read(request: Request, *, folder: str = "OCRBench", annotations: str = "OCRBench.json") -> FileEntries:
    """Images with their questions, in the order of the annotation file."""
    root = existing(request.raw, folder, "ocrbench")
    file = first_existing(root, [annotations], "ocrbench")
    images = first_existing(root, ["OCRBench_Images"], "ocrbench")

    def parse(_number: int, row: Any) -> tuple[str, Turn]:
        name = fields.text(row, "image_path")
        inside(images, name)
        turn_id = f"ocrbench-{fields.integer(row, 'id')}"
        answers = ocrbench_answers(fields.text(row, "dataset_name"), fields.texts(row, "answers"))
        return name, Turn(turn_id, fields.text(row, "question"), answers, "extractive")

    def build(name: str, turns: tuple[Turn, ...]) -> FileRecord:
        record_id = f"ocrbench-{Path(name).with_suffix('')}"
        shown = f"OCRBench/{images.name}/{name}"
        return FileRecord(record_id, "ocrbench", "ocrbench", images / name, shown, turns)

    where = f"OCRBench/{file.name}"
    return group_by_image(parse_rows(file, parse, where=where, reader="ocrbench"), build)
