"""MMOCR 1.x's annotation files (text recognition and spotting), the format of many scene-text sets.

One of them: {"metainfo": {"dataset_type": "TextRecogDataset", "task_name": "textrecog"},
"data_list": [{"instances": [{"text": "GRAND"}], "img_path": "1223731.jpg"}, ...]}. Where a file was
made for detection its instances have no text, and there is nothing to ask. The licence is that of
the data set.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data.annotations import existing, first_of, inside, read_rows, text
from fcotvl.data.lazy_records import FileDraft, Quarantined, Request
from fcotvl.data.ocr_tasks import transcription


def read(
    request: Request, *, folder: str, annotations: str = "labels.json", images: str = "imgs"
) -> Iterator[FileDraft | Quarantined]:
    """Images with all their text, in the order of the annotation file.

    Args:
        request: what is asked for.
        folder: below ``data.raw``; its last part names the source.
        annotations: the JSON file, relative to ``folder``.
        images: folder that ``img_path`` starts from, relative to ``folder``.

    Raises:
        DataError: the folder, its annotation file or its images are missing.
    """
    root = existing(request.raw, folder, "mmocr")
    return _images(first_of(root, [annotations], "mmocr"), first_of(root, [images or "."], "mmocr"))


def _images(file: Path, images: Path) -> Iterator[FileDraft | Quarantined]:
    source = file.parent.name
    try:
        rows = read_rows(file, "data_list")
    except DataError as error:
        yield Quarantined(f"{source}/{file.name}", "mmocr", str(error))
        return
    for number, row in enumerate(rows):
        try:
            name = text(row, "img_path")
            image = inside(images, name)
            key = f"{source}-{Path(name).with_suffix('')}"
            turn = _turn(f"{key}-text", row)
        except DataError as error:
            yield Quarantined(f"{source}/{file.name}, row {number}", "mmocr", str(error))
            continue
        yield FileDraft(key, "mmocr", source, image, f"{source}/{images.name}/{name}", (turn,))


def _turn(name: str, row: object) -> Turn:
    instances = row.get("instances") if isinstance(row, dict) else None
    if not isinstance(instances, list):
        raise DataError(f"instances is {type(instances).__name__}, expected a list")
    turn = transcription(name, [text(one, "text") for one in instances if not _ignored(one)])
    if turn is None:
        raise DataError("there is no text, or too much to learn")
    return turn


def _ignored(instance: object) -> bool:
    return isinstance(instance, dict) and instance.get("ignore") is True
