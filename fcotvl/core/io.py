"""Publish by rename: a stage killed at any moment leaves its old output or its new one."""

import errno
import fcntl
import glob
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from fcotvl.core.errors import ParamsError

log = logging.getLogger(__name__)

LOCK = "lock"
"""File in a folder that a run holds. The kernel drops the lock when the run dies, however it dies."""
MAX_YAML = 250_000
"""Bytes of a YAML file that a person wrote; ``workflow/mixes/public.yaml`` has 15,000."""
MAX_DEPTH = 20
"""Levels of a YAML file; the time to scan it grows with their square."""
OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR}
"""A folder takes no file's place by a rename, and no full folder's."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a scratch path beside ``path``; on success it replaces ``path``, file or folder.

    Never writes through ``path``: DVC may have linked it into its cache.
    """
    with temporary_folder(path.parent, f".{path.name}.") as holder:
        made = holder / "new" / path.name
        made.parent.mkdir()
        yield made
        _share(made, holder / "mode")
        for attempt in count():  # an equal run may publish at the same time
            try:
                made.replace(path)
                break
            except OSError as error:
                if error.errno not in OCCUPIED:
                    raise
            with suppress(FileNotFoundError):
                path.rename(holder / f"old{attempt}")


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a folder in ``parent`` that is gone afterwards; those that killed runs left under ``prefix`` go too."""
    parent.mkdir(parents=True, exist_ok=True)
    remove_dead(parent, prefix)
    file = None
    while not file:  # an equal run may have taken it for a dead one's
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        file = hold(folder, fcntl.LOCK_EX)
    with file:
        try:
            yield folder
        finally:
            remove(folder)


def remove(folder: Path) -> None:
    """Remove a folder that this run holds, its lock last: if this is cut short, the next run goes on with it."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:
            path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def hold(folder: Path, how: int) -> TextIO | None:
    """Lock ``folder`` until the returned file is closed; none if another run removes the folder first.

    Where the file system has no locks, the folder is not locked, and a warning says so once.

    Raises:
        BlockingIOError: another run holds it, and ``how`` has LOCK_NB.
    """
    path = folder / LOCK
    try:
        file = path.open("w")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        file.close()
        raise
    except OSError as error:
        _warn(str(error))
    with suppress(FileNotFoundError):
        if os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return file
    file.close()
    return None


@cache
def _warn(reason: str) -> None:
    log.warning("this file system has no locks (%s): do not run a stage twice at the same time", reason)


def remove_dead(parent: Path, prefix: str) -> None:
    """Remove what ``temporary_folder`` made for runs that were killed; nothing where there are no locks to tell."""
    for folder in parent.glob(f"{glob.escape(prefix)}*"):
        with suppress(OSError):
            folder.rmdir()  # killed before it had a lock
        with suppress(OSError), (folder / LOCK).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(folder)


def _share(made: Path, probe: Path) -> None:
    """Give files the modes that the user's mask wants: safetensors writes for its owner alone."""
    probe.touch()
    mode = probe.stat().st_mode
    for file in made.rglob("*") if made.is_dir() else (made,):
        if file.is_file():
            file.chmod(mode)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, in UTF-8."""
    with atomic(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` as indented JSON, keys in the given order."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in ``path`` as DVC reads it: YAML 1.2, in which 010 is ten, 1e-3 a number and yes a word.

    Raises:
        ParamsError: it cannot be read, is no mapping, or has an alias, a few of which can stand for any number of
            values.
    """
    try:
        if path.stat().st_size > MAX_YAML:
            raise ParamsError(f"{path} is larger than {MAX_YAML:,} bytes; expected a file that a person wrote")
        text = path.read_text(encoding="utf-8")
        depth = 0
        for event in YAML(typ="safe").parse(text):
            if isinstance(event, AliasEvent):
                raise ParamsError(f"{path} has an alias (*name); write out what it stands for")
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ParamsError(f"{path} is nested too deeply; expected at most {MAX_DEPTH} levels")
        values = YAML(typ="safe").load(text)
    except FileNotFoundError as error:
        raise ParamsError(f"{path} not found; run in the project's folder") from error
    except OSError as error:
        raise ParamsError(f"{path} cannot be read ({error.strerror}); correct that") from error
    except (YAMLError, ValueError, LookupError, ArithmeticError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark else ""
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ParamsError(f"{path} is not YAML: {reason[:200]}{place}") from error
    if not isinstance(values, dict):
        raise ParamsError(f"{path} holds {type(values).__name__}, expected a mapping")
    return values
