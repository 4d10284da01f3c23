"""Which files a module imports, read from its syntax: nothing is executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fcotvl"


def closure(path: Path) -> set[Path]:
    """Return ``path`` and every file of the package with code that it imports, directly or not.

    What a registry finds in its folder is imported by name at run time and does not count, and neither does the
    package's root, which every command passes.
    """
    seen: set[Path] = set()
    todo = [path]
    while todo:
        file = todo.pop()
        if file in seen or file == PACKAGE / "__init__.py":
            continue
        seen.add(file)
        for module in _imported(ast.parse(file.read_text(encoding="utf-8"))):
            todo += _files(module)
    return {file for file in seen if _has_code(file)}


def registries(files: set[Path]) -> set[Path]:
    """The folders of those ``files`` that are registries."""
    return {
        file.parent for file in files if file.name == "__init__.py" and "Registry(" in file.read_text(encoding="utf-8")
    }


def _has_code(file: Path) -> bool:
    """Whether a file is more than a docstring."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return any(not isinstance(node, ast.Expr) for node in body)


def _imported(tree: ast.AST) -> Iterator[str]:
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(module: str) -> Iterator[Path]:
    """The file of ``module`` and of the packages around it; nothing for other packages."""
    parts = module.split(".")
    if parts[0] != "fcotvl":
        return
    for end in range(2, len(parts) + 1):
        place = ROOT.joinpath(*parts[:end])
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                yield file
