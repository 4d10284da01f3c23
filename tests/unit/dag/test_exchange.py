"""Who wrote an output last, told by Snakemake's records."""

import hashlib
import json
import os
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from dvc.fs import localfs
from dvc.lock import LockError
from dvc.rwlock import rwlock

from fcotvl.dag import exchange
from fcotvl.dag.pipeline import Job
from fcotvl.dag.subprocesses import EngineError, run

PARAMS = ["distill=1"]
COMMAND = "python -m fcotvl distill"


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job that Snakemake has just run: one file, one folder."""
    monkeypatch.chdir(tmp_path)
    for name, time in {"code.py": 100, "out.bin": 200, "folder/a.bin": 200, f"folder/{exchange.STAMP}": 200}.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(name)
        os.utime(name, (time, time))
    os.utime("folder", (200, 200))
    exchange.RECORDS.mkdir(parents=True)
    record = {"params": sorted(map(repr, [*PARAMS, COMMAND])), "starttime": 150.0, "endtime": 200.0}
    record |= {"input": ["code.py"]}
    for out in ("out.bin", "folder"):
        exchange._record_path(Path(out)).write_text(json.dumps(record))
    return Job("distill", COMMAND, ["code.py"], ["out.bin", "folder"], PARAMS)


def test_what_snakemake_built_is_its_own(job):
    assert exchange.is_built(job)
    assert not exchange._is_foreign(job)


@pytest.mark.parametrize("touched", ["out.bin", "folder/a.bin"])
def test_what_another_program_wrote_is_foreign(job, touched):
    os.utime(touched, (300, 300))
    assert exchange._is_foreign(job)
    assert not exchange.is_built(job)


def test_a_folder_without_its_stamp_is_foreign(job):
    Path("folder", exchange.STAMP).unlink()
    assert exchange._is_foreign(job)


def test_what_dvc_linked_into_its_cache_snakemake_can_make_anew(job):
    Path("cache").mkdir()
    for number, name in enumerate(("out.bin", "folder/a.bin")):
        Path("cache", str(number)).hardlink_to(name)
        Path(name).chmod(0o444)
    exchange._unlink_files([job])
    assert exchange.is_built(job)
    Path("out.bin").write_text("new")
    assert Path("cache/0").read_text() == "out.bin"
    assert Path("folder/a.bin").samefile("cache/1")


def test_a_missing_output_is_neither_foreign_nor_built(job):
    Path("out.bin").unlink()
    assert not exchange._is_foreign(job)
    assert not exchange.is_built(job)


def test_an_output_without_its_inputs_is_not_foreign(job):
    """Such as a report that `dvc pull` fetched alone."""
    os.utime("out.bin", (300, 300))
    Path("code.py").unlink()
    assert not exchange._is_foreign(job)


def test_a_source_edited_while_the_job_ran_is_not_told_to_dvc(job):
    os.utime("code.py", (160, 160))
    assert not exchange.is_built(job)


@pytest.mark.parametrize(("text", "same"), [("code.py", True), ("other", False)])
def test_a_source_written_again_is_told_by_the_checksum_that_snakemake_noted(job, text, same):
    for out in job.outs:
        path = exchange._record_path(Path(out))
        record = json.loads(path.read_text())
        record["input_checksums"] = {"code.py": f"sha256:{hashlib.sha256(b'code.py').hexdigest()}"}
        path.write_text(json.dumps(record))
    Path("code.py").write_text(text)
    assert exchange.is_built(job) is same


def test_a_source_written_again_without_a_noted_checksum_is_not_told_to_dvc(job):
    Path("code.py").write_text("code.py")
    assert not exchange.is_built(job)


@pytest.mark.parametrize(
    "edited", [{"params": ["distill=2"]}, {"cmd": f"{COMMAND} --new"}, {"inputs": ["code.py", "out.bin"]}]
)
def test_what_was_edited_since_is_not_told_to_dvc(job, edited):
    assert not exchange.is_built(replace(job, **edited))


def test_an_input_that_is_gone_is_not_told_to_dvc(job):
    Path("code.py").unlink()
    assert not exchange.is_built(job)


def test_what_is_disowned_is_older_than_any_input_and_still_there(job):
    exchange._disown(job)
    assert Path("out.bin").stat().st_mtime == Path("folder").stat().st_mtime == 1
    assert Path("folder/a.bin").read_text() == "folder/a.bin"
    assert not exchange.is_built(job)


def test_a_dvc_at_work_here_is_refused(job):
    _note(os.getpid())
    with pytest.raises(EngineError, match=r"'dvc repro' .* is at work here"):
        exchange.refuse_beside_dvc()


def test_a_dvc_that_was_killed_is_not_in_the_way(job):
    _note(2**22 + 1)  # above the largest process id of Linux
    exchange.refuse_beside_dvc()


def test_a_failing_program_is_one_line(tmp_path):
    with pytest.raises(EngineError, match=r"^`python -c .*` failed: why$"):
        run("python", "-c", "import sys; print('more', file=sys.stderr); sys.exit('why')")


def test_dvc_is_refused_while_snakemake_works(job):
    out = str(Path("data/tiny/student.safetensors").resolve())
    with _as_dvc(out):
        pass
    exchange.begin()
    with pytest.raises(LockError, match="snakemake"), _as_dvc(out):
        pass
    exchange.end()
    with _as_dvc(out):
        pass


def test_dvc_is_refused_until_the_last_snakemake_has_ended(job, monkeypatch):
    out = str(Path("data/tiny/student.safetensors").resolve())
    exchange.begin()
    with monkeypatch.context() as other:
        other.setattr(os, "getpid", os.getppid)  # of a process that lives too
        exchange.begin()
        exchange.refuse_beside_dvc()
        exchange.end()
    with pytest.raises(LockError, match="snakemake"), _as_dvc(out):
        pass
    exchange.end()
    assert json.loads(exchange.DVC_AT_WORK.read_text()) == {"read": {}, "write": {}}
    with _as_dvc(out):
        pass


def _as_dvc(out: str) -> AbstractContextManager[None]:
    folder = str(exchange.DVC_AT_WORK.parent.resolve())
    Path(folder).mkdir(parents=True, exist_ok=True)
    held: AbstractContextManager[None] = rwlock(folder, localfs, "dvc repro", [], [out], False)
    return held


def _note(process: int) -> None:
    exchange.DVC_AT_WORK.parent.mkdir(parents=True)
    note = {"pid": process, "cmd": "dvc repro"}
    exchange.DVC_AT_WORK.write_text(json.dumps({"read": {}, "write": {"out.bin": note}}))
