"""Publish by rename: a stage killed at any moment leaves its old output or its new one."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
