"""A tile passes the frozen ViT once, whoever asks; what is on disk is never taken for another tile's tokens."""

from __future__ import annotations

import copy
import logging
import sqlite3
import zlib

import diskcache
import pytest
import torch

from fcotvl.compress import vision_cache
from fcotvl.compress.checkpoints import make_student
from fcotvl.compress.student import encode_tiles
from fcotvl.compress.vision_cache import keep_visual_tokens
from tests.support import models


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where a project in ``tmp_path`` keeps them."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".scratch" / "vision"


@pytest.fixture
def passed(monkeypatch):
    """How many tiles passed the ViT, at each pass."""
    seen = []
    plain = type(models.teacher().model.vision_tower).forward

    def forward(self, pixel_values, **kwargs):
        seen.append(len(pixel_values))
        return plain(self, pixel_values, **kwargs)

    monkeypatch.setattr(type(models.teacher().model.vision_tower), "forward", forward)
    return seen


def tiles(count=5, seed=0):
    return torch.randn(count, 3, models.TILE, models.TILE, generator=torch.Generator().manual_seed(seed))


def cached(dtype=torch.float32, gigabytes=1.0):
    teacher = models.teacher().to(dtype)
    keep_visual_tokens(teacher, gigabytes)
    return teacher


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_another_run_reads_what_one_has_encoded(passed, dtype):
    pixels = tiles()
    with torch.no_grad():
        expected = encode_tiles(models.teacher().to(dtype).model, pixels)
        passed.clear()
        first = encode_tiles(cached(dtype).model, pixels[:3])
        again = encode_tiles(cached(dtype).model, pixels[[4, 1, 0, 2, 1]])
    assert passed == [3, 1]
    assert first.dtype == again.dtype == dtype
    assert torch.equal(first, expected[:3])
    assert torch.equal(again, expected[[4, 1, 0, 2, 1]])


def test_a_student_shares_the_teachers_tokens_and_a_gradient_is_never_lost(passed):
    teacher, pixels = cached(), tiles(2)
    student = make_student(teacher, compressor="pool", ratio=0.5)
    with torch.inference_mode():
        expected = encode_tiles(teacher.model, pixels)
        assert torch.equal(encode_tiles(student.model, pixels), expected)
        assert torch.equal(encode_tiles(copy.deepcopy(teacher).model, pixels), expected)
    assert passed == [2]
    teacher.requires_grad_(True)
    assert encode_tiles(teacher.model, pixels).requires_grad
    assert passed == [2, 2]


@pytest.fixture
def threads():
    """Sets their number, until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("change", ["weights", "dtype", "autocast", "pixel", "size", "code", "threads"])
def test_whatever_changes_the_tokens_is_another_entry(passed, tmp_path, monkeypatch, threads, change):
    pixels = tiles(1)
    with torch.no_grad():
        encode_tiles(cached().model, pixels)
        teacher = models.teacher().to(torch.bfloat16 if change == "dtype" else torch.float32)
        if change == "weights":
            teacher.model.vision_tower.encoder.layer[1].lambda_1[3] += 1e-3
        elif change == "pixel":
            pixels[0, 2, 5, 7] += 1e-3
        elif change == "size":
            pixels = pixels[..., : models.TILE // 2, :]
        elif change == "code":
            (tmp_path / "student.py").write_text("# of another version")
            monkeypatch.setattr(vision_cache, "__file__", str(tmp_path / "vision_cache.py"))
        elif change == "threads":
            threads(torch.get_num_threads() + 1)
        keep_visual_tokens(teacher, 1.0)
        with torch.autocast("cpu", torch.bfloat16, enabled=change == "autocast"):
            found = encode_tiles(teacher.model, pixels)
            del teacher.model.vision_tower.cache
            assert torch.equal(found, encode_tiles(teacher.model, pixels))
    assert passed == [1, 1, 1]


def test_a_damaged_entry_is_encoded_again_and_mended(folder, passed):
    pixels = tiles(3)
    with torch.no_grad():
        expected = encode_tiles(cached().model, pixels)
        with diskcache.Cache(str(folder)) as store:
            for key, spoil in zip(list(store), (shortened, changed, stored_otherwise), strict=True):
                store.set(key, spoil(store.get(key)))
        for _ in range(2):
            assert torch.equal(encode_tiles(cached().model, pixels), expected)
    assert passed == [3, 3]


def shortened(value):
    return value[:-1]


def changed(value):
    return value[:-9] + bytes([value[-9] ^ 1]) + value[-8:]


def stored_otherwise(value):
    """Whole, but no safetensors: the project kept raw numbers before."""
    return zlib.crc32(value[-64:]).to_bytes(4) + value[-64:]


@pytest.mark.parametrize("when", ["opened", "used"])
def test_a_folder_that_cannot_be_used_costs_time_not_the_run(folder, passed, caplog, monkeypatch, when):
    if when == "opened":
        folder.parent.mkdir()
        folder.write_text("not a folder")
    teacher = cached()
    if when == "used":

        def full(*_, **__):
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(diskcache.Cache, "set", full)
    with caplog.at_level(logging.WARNING), torch.no_grad():
        found = [encode_tiles(teacher.model, tiles()) for _ in range(2)]
        assert torch.equal(found[0], found[1])
    assert passed == [5, 5]
    assert len(caplog.records) == 1
    assert f"visual tokens are not kept in {folder}" in caplog.text


def test_no_more_is_kept_than_there_is_room_for(folder, passed):
    entry = models.TOKENS * 4 * 16 * 4  # bytes of a tile's tokens
    with torch.no_grad():
        teacher = cached(gigabytes=100 * entry / 1e9)
        for seed in range(40):
            encode_tiles(teacher.model, tiles(10, seed))
    with diskcache.Cache(str(folder)) as store:
        assert 0 < len(store) <= 100
    assert sum(passed) == 400


def test_nothing_is_kept_where_no_room_is_given(folder):
    teacher = cached(gigabytes=0.0)
    with torch.no_grad():
        encode_tiles(teacher.model, tiles())
    assert not folder.exists()
