"""MMOCR 1.x's annotation files (text recognition and spotting), the format of many scene-text sets.

One of them: {"metainfo": {"dataset_type": "TextRecogDataset", "task_name": "textrecog"}, "data_list": [{"instances":
[{"text": "GRAND"}], "img_path": "1223731.jpg"}, ...]}. Where a file was made for detection its instances have no text,
and there is nothing to ask. The licence is that of the data set.
"""

from pathlib import Path
from typing import Any

from fcotvl.data import fields
from fcotvl.data.annotations import existing, first_existing, inside, parse_rows
from fcotvl.data.lazy_records import FileEntries, FileRecord, Request
from fcotvl.data.ocr_tasks import required_transcription


def read(request: Request, *, folder: str, annotations: str = "labels.json", images: str = "imgs") -> FileEntries:
    """Images with all their text, in the order of the annotation file.

    The last part of ``folder`` names the source.
    """
    root = existing(request.raw, folder, "mmocr")
    file = first_existing(root, [annotations], "mmocr")
    pictures = first_existing(root, [images or "."], "mmocr")
    source = file.parent.name

    def parse(_number: int, row: Any) -> FileRecord:
        name = fields.text(row, "img_path")
        image = inside(pictures, name)
        key = f"{source}-{Path(name).with_suffix('')}"
        kept = [one for one in fields.items(row, "instances") if not _is_ignored(one)]
        turn = required_transcription(f"{key}-text", [fields.text_or_empty(one, "text") for one in kept])
        return FileRecord(key, "mmocr", source, image, f"{source}/{pictures.name}/{name}", (turn,))

    return parse_rows(file, parse, "data_list", where=f"{source}/{file.name}", reader="mmocr")


def _is_ignored(instance: Any) -> bool:
    return isinstance(instance, dict) and instance.get("ignore") is True
