"""Publish by rename: a stage killed at any moment leaves its old output or its new one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

QUEUE = "/.dvc/tmp/exps/"
"""Where `dvc exp run --queue` and `--temp` put their working trees."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a scratch path beside ``path``; on success it replaces ``path``, file or folder.

    Never writes through ``path``: DVC may have linked it into its cache.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    made = holder / path.name
    try:
        yield made
        _share(made)
        if path.is_dir() or (made.is_dir() and path.exists()):
            path.rename(holder / "old")
        made.replace(path)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _share(made: Path) -> None:
    """Give files the modes that the user's mask wants: safetensors writes for its owner alone."""
    probe = made.with_name("mode")
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


def digest(paths: Iterable[Path], values: Any, *, vast: Iterable[Path] = ()) -> str:
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


def scratch(stage: str, key: str) -> Path:
    """The folder for ``stage``'s resume state: outside every output, so no engine deletes it.

    ``key`` is the digest of inputs, params and code: a run finds only what it would have written.
    Queued experiments share the workspace's folder.
    """
    home = Path(str(Path.cwd()).partition(QUEUE)[0])
    folder = home / ".scratch" / f"{stage}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
