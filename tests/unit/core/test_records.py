"""Records go to Parquet and back without loss, and a damaged shard is one clear line."""

import io
import re
from dataclasses import replace

import pandas as pd
import pytest
from PIL import Image

from fcotvl.core.errors import DataError
from fcotvl.core.records import Record, Turn, pixel_digest
from fcotvl.core.shards import SCHEMA, read_records, shards, write_shards
from tests.support.datasets import encoded, picture, record
from tests.support.imports import ROOT

RECORDS = [record(seed) for seed in range(5)]


def test_records_survive_the_round_trip(tmp_path):
    odd = Record(
        **{
            **vars(RECORDS[0]),
            "turns": (
                Turn("a", "Où?", ("été", "\u2603"), "reason", "parce que\nAnswer: été"),
                Turn("b", "Hidden?", (), "extractive"),
            ),
        }
    )
    assert write_shards(tmp_path, [*RECORDS, odd], shard_size=2) == 6
    assert list(read_records(tmp_path)) == [*RECORDS, odd]
    assert [path.name for path in shards(tmp_path)] == [f"{n:05d}.parquet" for n in range(3)]


def test_the_layout_on_disk_is_the_documented_one():
    section = (ROOT / "docs/design.md").read_text(encoding="utf-8").split("\n## Records on disk\n")[1].split("\n## ")[0]
    told = {name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`(.*?)`", row)}
    nested = {"turns": SCHEMA.field("turns").type.value_type, "image": SCHEMA.field("image").type}
    inner = {f"{column}.{field.name}" for column, struct in nested.items() for field in struct}
    assert told == {*SCHEMA.names, *inner} - {"image"}


def test_the_same_records_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_shards(tmp_path / name, RECORDS, shard_size=10)
    one, two = (shards(tmp_path / name)[0].read_bytes() for name in ("a", "b"))
    assert one == two


def test_no_record_is_an_empty_shard_and_not_a_missing_one(tmp_path):
    assert write_shards(tmp_path, [], shard_size=10) == 0
    assert list(read_records(tmp_path)) == []


def test_pandas_and_datasets_read_the_shards(tmp_path):
    write_shards(tmp_path, RECORDS, shard_size=10)
    frame = pd.read_parquet(tmp_path / "00000.parquet")
    with Image.open(io.BytesIO(frame.image[0]["bytes"])) as image:
        assert image.size == (64, 48)
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_parquet(
        str(tmp_path / "00000.parquet"), cache_dir=str(tmp_path / "cache")
    ).cast_column("image", datasets.Image())
    assert table[0]["image"].size == (64, 48)


def test_a_truncated_shard_is_one_line(tmp_path):
    write_shards(tmp_path, RECORDS, shard_size=10)
    shard = shards(tmp_path)[0]
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"00000.parquet is not a readable shard") as error:
        list(read_records(tmp_path))
    assert "\n" not in str(error.value)


def test_another_schema_is_one_line(tmp_path):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "00000.parquet")
    with pytest.raises(DataError, match="not a readable shard"):
        list(read_records(tmp_path))


def test_an_empty_folder_says_what_to_run(tmp_path):
    with pytest.raises(DataError, match="holds no Parquet shards; run the stage"):
        list(read_records(tmp_path))


def test_the_digest_is_of_pixels_and_not_of_files():
    image = picture(1)
    assert pixel_digest(image) == pixel_digest(Image.open(io.BytesIO(encoded(image, "BMP"))))
    assert pixel_digest(image) != pixel_digest(picture(2))
    assert pixel_digest(image) != pixel_digest(image.transpose(Image.Transpose.ROTATE_90))


def test_a_picture_that_was_damaged_later_is_named():
    cut = replace(RECORDS[0], image=RECORDS[0].image[:-40])
    with pytest.raises(DataError, match=rf"the picture of {cut.id} is damaged \(.*\); delete its shards, run curate"):
        cut.decode()
