"""A corpus of coloured noise with invented answers: enough for anything that trains."""

from __future__ import annotations

import io
from pathlib import Path

from fcotvl.core.records import Record, Turn, pixel_digest
from fcotvl.core.shards import write_shards
from tests.support import models


def record(number: int, split: str = "align", *, source: str = "noise/a", wide: bool = False) -> Record:
    """One picture with a transcription, a value to look up and one to work out."""
    picture = models.picture(112 if wide else 56, 56, seed=number)
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    name = f"{split}-{number}"
    value = str(number % 10)
    turns = (
        Turn(f"{name}-t", "Read.", (f"v {value}",), "transcribe"),
        Turn(f"{name}-e", "Value?", (value,), "extractive", f"It says {value}"),
        Turn(f"{name}-r", "Twice the value?", (str(2 * (number % 10)),), "reason"),
    )
    return Record(
        id=name,
        source=source,
        licence="CC0-1.0",
        split=split,
        image=encoded.getvalue(),
        width=picture.width,
        height=picture.height,
        sha256=pixel_digest(picture),
        turns=turns,
    )


def write(folder: Path, count: int = 12, *, shard_size: int = 5) -> Path:
    """Splits align, instruct and val of ``count`` records each, from two sources."""
    for split in ("align", "instruct", "val"):
        records = (record(i, split, source=f"noise/{'ab'[i % 2]}", wide=i % 3 == 0) for i in range(count))
        write_shards(folder / split, records, shard_size=shard_size)
    return folder


def write_teacher(folder: Path) -> Path:
    """A random teacher with its processor, as the stage ``teacher`` writes it."""
    models.teacher().save_pretrained(folder)
    models.processor().save_pretrained(folder)
    return folder
