"""Resuming: a fingerprint that notices changes, and a scratch folder per run."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fcotvl.core import io
from fcotvl.core.errors import FcotvlError
from fcotvl.core.io import LOCK
from fcotvl.core.resume import PROJECT, code_of, fingerprint, resumable


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scratch(cache_key="key"):
    return resumable("sft", inputs=[], cache_key=cache_key)


def test_the_fingerprint_notices_bytes_names_and_values(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "a").write_text("1")
    seen = {fingerprint([folder], 0), fingerprint([folder], 1)}
    (folder / "a").write_text("2")
    seen.add(fingerprint([folder], 0))
    (folder / "a").rename(folder / "b")
    seen.add(fingerprint([folder], 0))
    assert len(seen) == 4


def test_the_fingerprint_notices_sizes_and_times_in_vast_folders(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    file = folder / "rep\udce9.png"  # named in another encoding
    file.write_text("1")
    os.utime(file, (1, 1))
    before = fingerprint([], 0, vast=[folder])
    assert fingerprint([], 0, vast=[folder]) == before
    os.utime(file, (2, 2))
    later = fingerprint([], 0, vast=[folder])
    file.write_text("12")
    os.utime(file, (1, 1))
    assert len({before, later, fingerprint([], 0, vast=[folder])}) == 3


def test_the_fingerprint_ignores_bytecode(tmp_path):
    before = fingerprint([tmp_path], None)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/a.pyc").write_text("x")
    assert fingerprint([tmp_path], None) == before


def test_queued_experiments_share_the_scratch_of_the_workspace(tmp_path, monkeypatch):
    queued = tmp_path / ".dvc/tmp/exps/x1"
    queued.mkdir(parents=True)
    monkeypatch.chdir(queued)
    with scratch() as folder:
        assert folder.parent == tmp_path / ".scratch"
        assert folder.name.startswith("sft-")


def test_the_folder_is_gone_after_success(workspace):
    with scratch() as folder:
        (folder / "state").write_text("x")
    assert not list((workspace / ".scratch").iterdir())


def test_the_folder_stays_after_an_error_and_an_equal_run_finds_it(workspace):
    def fail():
        with scratch() as folder:
            (folder / "state").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with scratch("other") as folder:
        assert not (folder / "state").exists()
    with scratch() as folder:
        assert (folder / "state").read_text() == "half"


def test_two_equal_runs_at_the_same_time_do_not_share_a_folder(workspace):
    with scratch() as first:
        (first / "state").write_text("half")
        with scratch() as second:
            assert second != first
            assert [path.name for path in second.iterdir()] == [LOCK]
        assert not second.exists()
        assert (first / "state").read_text() == "half"


def test_without_locks_a_run_warns_and_goes_on_from_its_state(workspace, monkeypatch, caplog):
    """Some network file systems have none: that is not a second run."""

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    def stopped_run():
        with scratch() as folder:
            (folder / "state").write_text("half")
            raise RuntimeError

    monkeypatch.setattr(fcntl, "flock", no_locks)
    io._warn.cache_clear()
    with pytest.raises(RuntimeError):
        stopped_run()
    with scratch() as folder:
        assert (folder / "state").read_text() == "half"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No locks available" in caplog.text


KILLED_BESIDE_AN_EQUAL_RUN = """
import os, signal
from fcotvl.core.resume import resumable
with resumable("sft", inputs=[], cache_key="key") as folder:
    (folder / "state").write_text("half")
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_folder_of_a_killed_run_beside_an_equal_one_is_swept_and_no_other(workspace):
    with scratch():
        done = subprocess.run(
            [sys.executable, "-c", KILLED_BESIDE_AN_EQUAL_RUN], stdout=subprocess.PIPE, text=True, check=False
        )
        left = Path(done.stdout.strip())
        assert (left / "state").is_file()
        with scratch() as living:
            assert not left.exists()
            with scratch("other"):
                assert living.is_dir()
    with pytest.raises(RuntimeError), scratch() as state:
        raise RuntimeError
    with scratch("other"):
        assert state.is_dir()


def test_two_equal_runs_of_several_processes_are_an_error(workspace, monkeypatch):
    """Their folders could not be told apart by the other processes."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with scratch() as first, pytest.raises(FcotvlError, match="an equal run is at work in"), scratch():
        pass
    assert not first.exists()


def test_processes_of_one_run_share_the_folder(workspace, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with scratch() as first:
        monkeypatch.setenv("RANK", "1")
        with scratch() as second:
            assert second == first
        assert first.is_dir()
        monkeypatch.setenv("RANK", "0")


def test_the_code_of_a_stage_is_what_dvc_declares():
    code = code_of("distill")
    assert PROJECT / "fcotvl/core" in code
    assert all(path.exists() and path.is_relative_to(PROJECT / "fcotvl") for path in code)
    assert PROJECT / "fcotvl" not in code


def test_the_code_of_an_undeclared_stage_is_the_package():
    assert code_of("no-such-stage") == [PROJECT / "fcotvl"]
