"""Publishing by rename: nothing is ever half written."""

import os
import signal
import subprocess
import sys
from multiprocessing import get_context

import pytest

from fcotvl.core.io import atomic, write_text
from tests.support.imports import ROOT


def test_a_failure_keeps_the_old_file(tmp_path):
    target = tmp_path / "out/a.txt"
    write_text(target, "old")

    def fail():
        with atomic(target) as scratch:
            scratch.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "folder"
    for name in ("one", "two"):
        with atomic(target) as scratch:
            scratch.mkdir()
            (scratch / name).write_text(name)
    assert [p.name for p in target.iterdir()] == ["two"]


def test_a_folder_takes_the_place_of_a_file_and_the_other_way_round(tmp_path):
    target = tmp_path / "out"
    write_text(target, "file")
    with atomic(target) as scratch:
        scratch.mkdir()
    assert target.is_dir()
    write_text(target, "file")
    assert target.read_text() == "file"


def test_published_files_have_the_mode_of_the_umask(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    with atomic(tmp_path / "folder") as scratch:
        scratch.mkdir()
        (scratch / "a").touch(mode=0o600)
    assert (tmp_path / "folder/a").stat().st_mode == plain.stat().st_mode


def test_it_never_writes_through_a_link(tmp_path):
    cached = tmp_path / "cache"
    cached.write_text("kept")
    link = tmp_path / "out"
    link.symlink_to(cached)
    write_text(link, "new")
    assert (cached.read_text(), link.read_text(), link.is_symlink()) == ("kept", "new", False)


KILLED = """
import os, signal, sys
from pathlib import Path
from fcotvl.core.io import atomic
with atomic(Path(sys.argv[1])) as scratch:
    scratch.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_run_sweeps_what_a_killed_one_left_and_nothing_else(tmp_path):
    target, kept = tmp_path / "out.txt", tmp_path / ".out.txt.mine"
    kept.mkdir()
    (kept / "notes").touch()
    assert subprocess.run([sys.executable, "-c", KILLED, target], check=False).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    with atomic(target) as living:
        living.write_text("one")
        write_text(target, "two")
        assert living.exists()
    assert target.read_text() == "one"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.txt.mine", "out.txt"]


SWEPT = """
import sys
from pathlib import Path
from fcotvl.core.io import atomic
from fcotvl.core.resume import resumable
from tests.soak.forks import Child, kill_at

def publish(number=None):
    if number is not None:
        kill_at(number)
    with resumable("a", inputs=[], cache_key=0) as state:
        parts = [state / name for name in ("a", "b", "c")]
        if not (state / "done").exists():
            for part in parts:
                part.write_text("x")
            (state / "done").touch()
        made = [part.read_text() for part in parts]
        with atomic(Path("out")) as scratch:
            scratch.mkdir()
            for name in made * 2:
                (scratch / name).touch()

number, code = 0, -9
while code == -9:
    code = Child(lambda: publish(number)).wait().code
    again = Child(publish).wait()
    assert again.code == 0, (number, again.text)
    left = sorted(str(path) for path in Path().rglob("*"))
    assert left == [".scratch", "out", "out/x"], (number, left)
    number += 1
print(number)
"""


def test_killed_before_any_change_the_next_run_succeeds_and_sweeps(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", SWEPT], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) > 20


def _publish_often(target):
    for _ in range(300):
        with atomic(target) as scratch:
            scratch.mkdir()
            (scratch / "a").touch()


def test_two_runs_may_publish_one_folder_at_the_same_time(tmp_path):
    context = get_context("fork")
    runs = [context.Process(target=_publish_often, args=[tmp_path / "out"]) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0, 0]
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "a"]
