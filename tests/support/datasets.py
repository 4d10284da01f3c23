"""Small data sets in official layouts, and pictures that differ from one another."""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcotvl.core.records import Record, Turn, pixel_digest
from fcotvl.data.lazy_records import Request
from tests.support.imports import ROOT

REALDATA = os.environ.get("FCOTVL_REALDATA")
"""Folder with samples of the official data sets, if there is one."""

needs_realdata = pytest.mark.skipif(
    not REALDATA, reason="set FCOTVL_REALDATA to a folder with samples of the official data sets"
)


def realdata(*parts: str) -> Path:
    return Path(REALDATA or "", *parts)


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Coarse random blocks: pictures of two seeds look nothing alike."""
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def record(seed: int, *questions: str, split: str = "align", name: str | None = None) -> Record:
    """A record of ``picture(seed)``; without ``questions`` it has one that no other record has."""
    image = picture(seed)
    turns = tuple(
        Turn(f"{seed}-{index}", question, ("yes",), "extractive")
        for index, question in enumerate(questions or (f"What is {seed}?",))
    )
    return Record(
        id=name or f"r{seed}",
        source="test",
        licence="CC0",
        split=split,
        image=encoded(image),
        width=image.width,
        height=image.height,
        sha256=pixel_digest(image),
        turns=turns,
    )


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_picture(path: Path, seed: int, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path, **options)


def request(raw: Path, split: str = "test", seed: int = 0) -> Request:
    return Request(raw=raw, split=split, seed=seed)


def write_chartqa(raw: Path, split: str, charts: int, first_seed: int = 0) -> Path:
    """``charts`` charts with two human and one augmented question each, in the official layout."""
    root = raw / "ChartQA" / "ChartQA Dataset" / split
    human, augmented = [], []
    for index in range(charts):
        name = f"{first_seed + index}.png"
        write_picture(root / "png" / name, first_seed + index)
        human += [
            {"imgname": name, "query": f"Which is the {what}?", "label": "Fiji"} for what in ("largest", "smallest")
        ]
        augmented.append({"imgname": name, "query": "How much was it in 2004?", "label": "12.5"})
    write_json(root / f"{split}_human.json", human)
    write_json(root / f"{split}_augmented.json", augmented)
    return root


def small_shards(home: Path) -> Path:
    """A copy of the configuration in which mixes have more pictures and shards of five."""
    for name in ("scales", "mixes"):
        shutil.copytree(ROOT / "workflow" / name, home / "workflow" / name)
    shutil.copy(ROOT / "params.yaml", home)
    for name in ("smoke", "local"):
        path = home / f"workflow/mixes/{name}.yaml"
        text = path.read_text().replace("shard_size: 500", "shard_size: 5")
        path.write_text(text.replace("align: 24", "align: 60").replace("align: 2000", "align: 90"))
    return home / "params.yaml"
