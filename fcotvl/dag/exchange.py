"""What DVC wrote, told to Snakemake; what Snakemake built, told to DVC.

Snakemake trusts mtimes and its own records; DVC trusts checksums and dvc.lock. An output whose
mtime is not the one in Snakemake's record was written by somebody else. The records are private to
Snakemake, so it is pinned to its minor version and ``tests/workflow`` runs both engines.
"""

from __future__ import annotations

import json
import os
import sys
from base64 import urlsafe_b64encode
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fcotvl.core.io import write_json
from fcotvl.dag.pipeline import Chain, Job
from fcotvl.dag.subprocesses import EngineError, run

LOCK = Path("dvc.lock")
AT_WORK_DVC = Path(".dvc/tmp/rwlock")
AT_WORK_SNAKEMAKE = Path(".snakemake/locks")
RECORDS = Path(".snakemake/metadata")
STAMP = ".snakemake_timestamp"
ADOPTING = "FCOTVL_ADOPTING"
"""Set for the Snakemake run that only adopts: it must not start another."""


def sync(chain: Chain) -> None:
    """Tell Snakemake what DVC wrote since its last run; called when the Snakefile is parsed.

    Raises:
        EngineError: DVC is at work in this folder.
    """
    if ADOPTING in os.environ or any(AT_WORK_SNAKEMAKE.glob("*")):
        return  # outputs that a running Snakemake has not recorded yet are not foreign
    _refuse_beside_dvc()
    jobs = chain.jobs()
    told = _mtime(LOCK) if LOCK.exists() else 0
    if any(is_built(job) and max(map(_mtime, job.outs)) > told for job in jobs.values()):
        commit(chain)  # the last Snakemake was killed before it could
    ours = {out for job in jobs.values() for out in job.outs}
    for point in chain.grid():  # `dvc status` knows nothing of the other variants
        for job in chain.jobs(**point).values():
            if ours.isdisjoint(job.outs) and _is_foreign(job):
                _disown(job)
    if doubtful := {name for name, job in jobs.items() if _is_there(job) and not is_built(job)}:
        _adopt_or_disown(jobs, doubtful)


def commit(chain: Chain) -> None:
    """Tell DVC what Snakemake built, where params and sources are still those it was built from."""
    jobs, changed = chain.jobs(), _changed()
    todo = [name for name, job in jobs.items() if name in changed and is_built(job)]
    if todo:
        run("dvc", "commit", "--force", "--no-relink", *todo)
        _say(f"committed to DVC: {', '.join(todo)}")
    if LOCK.exists():
        os.utime(LOCK)


def _adopt_or_disown(jobs: dict[str, Job], doubtful: set[str]) -> None:
    changed = _changed()
    unsure: set[str] = set()  # outputs that will be made anew
    younger: set[str] = set()  # outputs that are adopted: what was made of them follows
    adopted, stale = [], []
    for name, job in jobs.items():  # in dvc.yaml's order, which is that of the chain
        if name in changed or not unsure.isdisjoint(job.inputs):
            unsure.update(job.outs)
            if name in changed and _is_foreign(job):
                _disown(job)
                stale.append(name)
        elif name in doubtful or not younger.isdisjoint(job.inputs):
            younger.update(job.outs)
            adopted.append(name)
    if adopted:
        adopt([jobs[name] for name in adopted])
        _say(f"up to date by DVC's word: {', '.join(adopted)}")
    if stale:
        _say(f"changed since DVC wrote them, to be rebuilt: {', '.join(stale)}")


def adopt(jobs: Collection[Job]) -> None:
    """Put the mtimes of these jobs' outputs in order and record their params; nothing is run."""
    rules = sorted({job.stage for job in jobs})
    files = [out for job in jobs for out in job.outs]
    options = [
        "--touch",
        "--nolock",
        "--no-hooks",
        "--rerun-incomplete",
        "--cores",
        "1",
        "--quiet",
        "all",
    ]
    forced = ["--forcerun", *rules, "--allowed-rules", *rules, "--", *files]
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


def _is_kept(job: Job) -> bool:
    """Whether the outputs are there and Snakemake knows them."""
    return all(_is_untouched(Path(out)) for out in job.outs)


def _is_there(job: Job) -> bool:
    return all(Path(path).exists() for path in (*job.inputs, *job.outs))


def _is_foreign(job: Job) -> bool:
    """Whether somebody else than Snakemake wrote an output last; inputs must be there to tell."""
    return _is_there(job) and not _is_kept(job)


def is_built(job: Job) -> bool:
    """Whether Snakemake made the outputs as it would today, and no input is younger than that."""
    if not _is_there(job) or not _is_kept(job):
        return False
    youngest = max(map(_mtime, job.inputs))
    params, inputs = sorted(map(repr, job.params)), sorted(job.inputs)
    return all(
        record["params"] == params
        and record["input"] == inputs
        and record["shellcmd"].startswith(f"{job.cmd} ")
        and record["starttime"] >= youngest
        for record in (_record(Path(out)) for out in job.outs)
    )


def _is_untouched(out: Path) -> bool:
    """Whether ``out`` is as Snakemake recorded it; a folder's time is that of a stamp inside."""
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
    """Note for DVC that this Snakemake is at work: until it ends, DVC refuses to run a stage."""
    notes = _notes()
    here = {"pid": os.getpid(), "cmd": "snakemake"}
    notes["write"][str(Path("data").resolve())] = here
    write_json(AT_WORK_DVC, notes)


def end() -> None:
    """Withdraw the note of ``begin``; that of a killed Snakemake DVC withdraws itself."""
    notes = _notes()
    others = {path: note for path, note in notes["write"].items() if note["pid"] != os.getpid()}
    write_json(AT_WORK_DVC, notes | {"write": others})


def _notes() -> dict[str, Any]:
    """DVC's notes of who reads and writes what, by process id."""
    text = AT_WORK_DVC.read_text(encoding="utf-8") if AT_WORK_DVC.exists() else ""
    return {"read": {}, "write": {}} | json.loads(text or "{}")


def _refuse_beside_dvc() -> None:
    notes = _notes()
    readers = [note for several in notes["read"].values() for note in several]
    for note in [*notes["write"].values(), *readers]:
        if _is_alive(int(note["pid"])):
            raise EngineError(
                f"{note['cmd']!r} (process {note['pid']}) is at work here: wait for it"
            )


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _say(line: str) -> None:
    print(line, file=sys.stderr)
