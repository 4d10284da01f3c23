"""Going on where a run was stopped: one scratch folder per stage and fingerprint, under a lock.

State lies under ``.scratch/``, outside every output, so that no engine deletes it. Its name is a fingerprint of inputs,
params and the code that ``dvc.yaml`` declares for the stage: a run finds only what it would have written itself. Queued
experiments of DVC share the workspace's folder.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fcotvl.core.errors import FcotvlError
from fcotvl.core.io import hold, read_yaml, remove, remove_dead, temporary_folder
from fcotvl.core.processes import count, is_main

QUEUE = "/.dvc/tmp/exps/"
"""Where `dvc exp run --queue` and `--temp` put their working trees."""
PROJECT = Path(__file__).parents[2]
TEMPORARY = "beside-"
"""Begins the name of the folder of a run beside an equal one: nothing in it outlives the run."""


@contextmanager
def resumable(stage: str, *, inputs: Iterable[Path], cache_key: Any, vast: Iterable[Path] = ()) -> Iterator[Path]:
    """Yield the scratch folder of ``stage``, where an equal run left off; gone on success.

    Args:
        stage: its name in dvc.yaml.
        inputs: files and folders that the result depends on, by content.
        cache_key: params that the result depends on.
        vast: inputs too large to read for this: size and time of change must do.

    A second equal run beside the first works in a folder of its own: neither sees half of the other's state. Processes
    of one run (torchrun) share the folder.
    """
    key = fingerprint([*inputs, *code_of(stage)], cache_key, vast=vast)
    folder = scratch_folder() / f"{stage}-{key}"
    if not is_main():
        yield folder  # of the first process, which holds the lock and clears up
        return
    remove_dead(folder.parent, TEMPORARY)
    with _lock(folder) as is_ours:
        if is_ours:
            yield folder
            # Half of a state must not be found: first it loses its name, which only a run that fails leaves it.
            with suppress(FileNotFoundError):  # the user was faster
                remove(folder.rename(folder.with_name(f"{TEMPORARY}{folder.name}.done")))
        elif count() > 1:
            raise FcotvlError(f"an equal run is at work in {folder}; wait until it ends")
        else:
            with temporary_folder(folder.parent, f"{TEMPORARY}{folder.name}.") as own:
                yield own


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Hold the lock of ``folder``, which is made if it is not there; whether no other run does."""
    while True:  # the run that held it may just have cleared up
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = hold(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        if file:
            with file:
                yield True
            return


def code_of(stage: str) -> list[Path]:
    """The code that ``stage`` depends on, as dvc.yaml declares it; all of it without a dvc.yaml."""
    description = PROJECT / "dvc.yaml"
    if description.is_file():
        stages = read_yaml(description)["stages"]
        if entry := stages.get(stage):
            deps = entry.get("do", entry)["deps"]
            return [PROJECT / dep for dep in deps if dep.startswith("fcotvl/")]
    return [PROJECT / "fcotvl"]


def fingerprint(paths: Iterable[Path], values: Any, *, vast: Iterable[Path] = ()) -> str:
    """Sixteen hex digits that change with any byte of ``paths`` (folders whole) or ``values``.

    Of files in ``vast`` folders, too much to read for this, size and time of change must do.
    """
    total = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode())
    for path in paths:
        for name, member in _members(path):
            with member.open("rb") as file:
                total.update(name + hashlib.file_digest(file, "sha256").digest())
    for path in vast:
        for name, member in _members(path):
            stat = member.stat()
            total.update(name + f"{stat.st_size} {stat.st_mtime_ns}".encode())
    return total.hexdigest()[:16]


def _members(path: Path) -> Iterator[tuple[bytes, Path]]:
    """A file, or the files of a folder in order, bytecode apart; each with its name below."""
    members = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for member in members:
        if "__pycache__" not in member.parts:
            yield b"\0" + os.fsencode(member.relative_to(path)) + b"\0", member


def scratch_folder() -> Path:
    """Where runs keep what is no output; queued experiments share the workspace's."""
    return Path(str(Path.cwd()).partition(QUEUE)[0]) / ".scratch"
