"""Nothing half-written, and a fingerprint that notices."""

import os

import pytest

from fcotvl.core import io as files


def test_a_failure_keeps_the_old_file(tmp_path):
    target = tmp_path / "out/a.txt"
    files.write_text(target, "old")

    def fail():
        with files.atomic(target) as scratch:
            scratch.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "folder"
    for name in ("one", "two"):
        with files.atomic(target) as scratch:
            scratch.mkdir()
            (scratch / name).write_text(name)
    assert [p.name for p in target.iterdir()] == ["two"]


def test_a_folder_takes_the_place_of_a_file_and_the_other_way_round(tmp_path):
    target = tmp_path / "out"
    files.write_text(target, "file")
    with files.atomic(target) as scratch:
        scratch.mkdir()
    assert target.is_dir()
    files.write_text(target, "file")
    assert target.read_text() == "file"


def test_what_is_published_can_be_read_by_those_whom_the_mask_admits(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    with files.atomic(tmp_path / "folder") as scratch:
        scratch.mkdir()
        (scratch / "a").touch(mode=0o600)
    assert (tmp_path / "folder/a").stat().st_mode == plain.stat().st_mode


def test_it_never_writes_through_a_link(tmp_path):
    cached = tmp_path / "cache"
    cached.write_text("kept")
    link = tmp_path / "out"
    link.symlink_to(cached)
    files.write_text(link, "new")
    assert (cached.read_text(), link.read_text(), link.is_symlink()) == ("kept", "new", False)


def test_the_digest_notices_bytes_names_and_values(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_text("1")
    seen = {files.digest([tmp_path / "d"], 0), files.digest([tmp_path / "d"], 1)}
    (tmp_path / "d/a").write_text("2")
    seen.add(files.digest([tmp_path / "d"], 0))
    (tmp_path / "d/a").rename(tmp_path / "d/b")
    seen.add(files.digest([tmp_path / "d"], 0))
    assert len(seen) == 4


def test_of_vast_folders_the_digest_notices_sizes_and_times(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    file = folder / "rep\udce9.png"  # named in another encoding
    file.write_text("1")
    os.utime(file, (1, 1))
    before = files.digest([], 0, vast=[folder])
    assert files.digest([], 0, vast=[folder]) == before
    os.utime(file, (2, 2))
    later = files.digest([], 0, vast=[folder])
    file.write_text("12")
    os.utime(file, (1, 1))
    assert len({before, later, files.digest([], 0, vast=[folder])}) == 3


def test_the_digest_forgets_bytecode(tmp_path):
    before = files.digest([tmp_path], None)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/a.pyc").write_text("x")
    assert files.digest([tmp_path], None) == before


def test_queued_experiments_share_the_scratch_of_the_workspace(tmp_path, monkeypatch):
    queued = tmp_path / ".dvc/tmp/exps/x1"
    queued.mkdir(parents=True)
    monkeypatch.chdir(queued)
    assert files.scratch("sft", "abc") == tmp_path / ".scratch/sft-abc"
