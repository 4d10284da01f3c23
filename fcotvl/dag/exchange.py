"""What DVC wrote, told to Snakemake; what Snakemake built, told to DVC.

Snakemake trusts mtimes and its own records; DVC trusts checksums and dvc.lock. An output whose mtime is not the one in
Snakemake's record was written by another program: it is *foreign*. The records are private to Snakemake, so its minor
version is pinned and ``tests/workflow`` runs both.
"""

import hashlib
import json
import os
import shutil
import stat
import sys
from base64 import urlsafe_b64encode
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from fcotvl.core.io import atomic, write_json
from fcotvl.dag.pipeline import GATE, Job, Pipeline
from fcotvl.dag.subprocesses import EngineError, run

LOCK = Path("dvc.lock")
DVC_AT_WORK = Path(".dvc/tmp/rwlock")
SNAKEMAKE_AT_WORK = Path(".snakemake/locks")
RECORDS = Path(".snakemake/metadata")
SNAKEMAKE = "snakemake"
"""How it is called in DVC's notes of who is at work."""
STAMP = ".snakemake_timestamp"
ADOPTING = "FCOTVL_ADOPTING"
"""Set for the Snakemake run that only adopts outputs: it must not start another."""


def sync(pipeline: Pipeline) -> None:
    """Tell Snakemake what DVC wrote since its last run; called when the Snakefile is parsed.

    Raises:
        EngineError: DVC is at work in this folder.
    """
    if ADOPTING in os.environ or any(SNAKEMAKE_AT_WORK.glob("*")):
        return  # outputs that a running Snakemake has not recorded yet are not foreign
    refuse_beside_dvc()
    jobs = pipeline.jobs()
    variants = [job for point in pipeline.grid() for job in pipeline.jobs(**point).values()]
    _unlink_files([*jobs.values(), *variants])
    committed = _mtime(LOCK) if LOCK.exists() else 0
    if any(is_built(job) and max(map(_mtime, job.outs)) > committed for job in jobs.values()):
        commit(pipeline)  # the last Snakemake was killed before it could
    ours = {out for job in jobs.values() for out in job.outs}
    for job in variants:  # of which `dvc status` knows nothing
        if ours.isdisjoint(job.outs) and _is_foreign(job):
            _disown(job)
    if doubtful := {name for name, job in jobs.items() if _exists(job) and not is_built(job)}:
        _adopt_or_disown(jobs, doubtful)


def commit(pipeline: Pipeline) -> None:
    """Tell DVC what Snakemake built, where params and sources are still those it was built from."""
    if not Path(GATE).exists():
        return  # DVC takes no stage without it; the next run builds it and comes back here
    jobs, changed = pipeline.jobs(), _changed()
    names = [name for name, job in jobs.items() if name in changed and is_built(job)]
    if names:
        built = [jobs[name] for name in names]
        paths = [path for job in built for out in map(Path, job.outs) for path in (out, *out.rglob("*/"))]
        times = {path: os.lstat(path).st_mtime_ns for path in paths}
        run("dvc", "commit", "--force", *names)
        _unlink_files(built)
        for path, time in times.items():  # DVC made links of them into its cache
            os.utime(path, ns=(time, time), follow_symlinks=False)
        _print(f"committed to DVC: {', '.join(names)}")
    if LOCK.exists():
        os.utime(LOCK)


def _unlink_files(jobs: Iterable[Job]) -> None:
    """Make outputs that DVC linked read-only into its cache files of their own, no younger than they were.

    Snakemake refuses to make a read-only file anew: it takes it for protected. What is in folders may stay linked.
    """
    for path in {Path(out) for job in jobs for out in job.outs}:
        if path.is_file() and not os.lstat(path).st_mode & stat.S_IWUSR:
            with atomic(path) as copy:
                shutil.copyfile(path, copy)
                shutil.copystat(path, copy)


def _adopt_or_disown(jobs: dict[str, Job], doubtful: set[str]) -> None:
    changed = _changed()
    rebuilt: set[str] = set()  # outputs that will be made anew
    touched: set[str] = set()  # outputs that are adopted: what was made of them follows
    adopted, stale = [], []
    for name, job in jobs.items():  # in dvc.yaml's order, which is that of the chain
        if name in changed or not rebuilt.isdisjoint(job.inputs):
            rebuilt.update(job.outs)
            if name in changed and _is_foreign(job):
                _disown(job)
                stale.append(name)
        elif name in doubtful or not touched.isdisjoint(job.inputs):
            touched.update(job.outs)
            adopted.append(name)
    if adopted:
        _adopt([jobs[name] for name in adopted])
        _print(f"up to date according to DVC: {', '.join(adopted)}")
    if stale:
        _print(f"changed since DVC wrote them, to be rebuilt: {', '.join(stale)}")


def _adopt(jobs: Collection[Job]) -> None:
    """Put the mtimes of these jobs' outputs in order and record their params; nothing is run."""
    rules = sorted({job.stage for job in jobs})
    files = [out for job in jobs for out in job.outs]
    options = ["--touch", "--nolock", "--no-hooks", "--rerun-incomplete", "--cores", "1"]
    forced = ["--quiet", "all", "--forcerun", *rules, "--allowed-rules", *rules, "--", *files]
    run("snakemake", *options, *forced, env={**os.environ, ADOPTING: "1"})
    if LOCK.exists():
        os.utime(LOCK)


def _disown(job: Job) -> None:
    """Make Snakemake rebuild: no record, and older than any input. Nothing is deleted."""
    for out in map(Path, job.outs):
        _record_path(out).unlink(missing_ok=True)
        if out.is_dir():
            (out / STAMP).unlink(missing_ok=True)
        os.utime(out, (1, 1))  # 0 would read as no time at all


def is_built(job: Job) -> bool:
    """Whether Snakemake made the outputs as it would today, from inputs that are as they were then."""
    if not _exists(job) or not _is_untouched(job):
        return False
    params, inputs = sorted(map(repr, [*job.params, job.cmd])), sorted(job.inputs)
    return all(
        record["params"] == params and record["input"] == inputs and all(_is_unchanged(path, record) for path in inputs)
        for record in (_record(Path(out)) for out in job.outs)
    )


def _is_unchanged(path: str, record: dict[str, Any]) -> bool:
    """Whether an input is no younger than what was made of it, or has the checksum that Snakemake noted then.

    As Snakemake decides it: a source that was edited and restored, or left by another branch, reruns nothing.
    """
    if (time := _mtime(path)) <= record["endtime"]:
        return bool(time <= record["starttime"])  # else it was edited while the job ran
    noted = (record.get("input_checksums") or {}).get(path)  # of small files
    return noted is not None and noted == f"sha256:{hashlib.sha256(Path(path).read_bytes()).hexdigest()}"


def _exists(job: Job) -> bool:
    return all(Path(path).exists() for path in (*job.inputs, *job.outs))


def _is_foreign(job: Job) -> bool:
    """Whether another program wrote an output last; inputs must exist to tell."""
    return _exists(job) and not _is_untouched(job)


def _is_untouched(job: Job) -> bool:
    """Whether every output exists as Snakemake recorded it."""
    return all(_is_recorded(Path(out)) for out in job.outs)


def _is_recorded(out: Path) -> bool:
    """Whether ``out`` is as old as its record; a folder's time is that of a stamp inside."""
    record = _record(out)
    if not record or not out.exists():
        return False
    if not out.is_dir():
        return bool(_mtime(out) == record["endtime"])
    stamp = out / STAMP
    return (
        stamp.exists()
        and _mtime(stamp) == record["endtime"]
        and all(_mtime(path) <= record["endtime"] for path in (out, *out.rglob("*")))
    )


def _record(out: Path) -> dict[str, Any]:
    path = _record_path(out)
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return record


def _record_path(out: Path) -> Path:
    return RECORDS / urlsafe_b64encode(str(out).encode()).decode()


def _mtime(path: Path | str) -> float:
    return os.lstat(path).st_mtime


def _changed() -> set[str]:
    """The stages that DVC would run."""
    return set(json.loads(run("dvc", "status", "--json")))


def begin() -> None:
    """Note for DVC that this Snakemake is at work: until it ends, DVC refuses to run a stage.

    As a reader of the whole folder, since there may be several: the experiment and the study.
    """
    notes = _notes()
    notes["read"].setdefault(str(Path.cwd()), []).append({"pid": os.getpid(), "cmd": SNAKEMAKE})
    write_json(DVC_AT_WORK, notes)


def end() -> None:
    """Withdraw the note of ``begin``; DVC itself withdraws that of a killed Snakemake."""
    notes = _notes()
    others = {path: [note for note in several if note["pid"] != os.getpid()] for path, several in notes["read"].items()}
    write_json(DVC_AT_WORK, notes | {"read": {path: several for path, several in others.items() if several}})


def _notes() -> dict[str, Any]:
    """DVC's notes of who reads and writes what, by process id."""
    text = DVC_AT_WORK.read_text(encoding="utf-8") if DVC_AT_WORK.exists() else ""
    return {"read": {}, "write": {}} | json.loads(text or "{}")


def refuse_beside_dvc() -> None:
    """Raise an ``EngineError`` if DVC is at work in this folder. Snakemake itself sees to those of its own kind."""
    notes = _notes()
    readers = [note for several in notes["read"].values() for note in several]
    for note in [*notes["write"].values(), *readers]:
        if note["cmd"] != SNAKEMAKE and _is_alive(int(note["pid"])):
            raise EngineError(f"{note['cmd']!r} (process {note['pid']}) is at work here: wait for it")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _print(line: str) -> None:
    print(line, file=sys.stderr)
