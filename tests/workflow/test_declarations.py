"""What dvc.yaml declares is what stages use: code by imports, params by what their file reads."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from fcotvl.dag.pipeline import Stage, read_stages
from tests.support.imports import PACKAGE, ROOT, closure

STAGES = read_stages(ROOT / "dvc.yaml")
WHOLE = {
    PACKAGE / room for room in ("data", "merge", "models", "params", "report", "train/teacher")
}
"""Rooms that are declared as one folder."""
POINT = {"scale", "compressor", "ratio", "seed", "recipe"}
"""Params that a stage gets on its command line."""
CHAIN = ast.Attribute | ast.Subscript


def test_every_stage_is_looked_at():
    assert len(STAGES) == 17


@pytest.mark.parametrize("name", STAGES)
def test_code_deps_are_the_import_closure(name):
    declared = {dep for dep in STAGES[name].deps if dep.startswith("fcotvl/")}
    assert declared == _wanted(_module(STAGES[name]))


@pytest.mark.parametrize("command", sorted({stage.cmd.split()[3] for stage in STAGES.values()}))
def test_params_are_those_that_the_stage_file_reads(command):
    entries = [stage for stage in STAGES.values() if stage.cmd.split()[3] == command]
    declared = {key for entry in entries for key in _declared(entry)}
    used = _used(PACKAGE / f"stages/{command}.py")
    if None in declared:  # the whole of params.yaml
        declared, used = (
            {key for key in keys if key and key[0] == "at"} for keys in (declared, used)
        )
    unread = {key for key in declared if not any(_within(one, key) for one in used)}
    undeclared = {key for key in used if not any(_within(key, one) for one in declared)}
    assert (unread, undeclared) == (set(), set())


def _module(stage: Stage) -> Path:
    return PACKAGE / f"stages/{stage.cmd.split()[3]}.py"


def _wanted(module: Path) -> set[str]:
    """The closure of ``module``, rooms and registries as one folder."""
    files = closure(module) - {PACKAGE / "stages/__init__.py"}
    folders = WHOLE | {
        file.parent
        for file in files
        if file.name == "__init__.py" and "iter_modules" in file.read_text(encoding="utf-8")
    }
    wanted = set()
    for file in files:
        around = [folder for folder in file.parents if folder in folders]
        wanted.add(around[-1] if around else file)
    return {str(path.relative_to(ROOT)) for path in wanted}


def _declared(stage: Stage) -> set[tuple[str, ...] | None]:
    keys = set()
    for file, key in stage.params:
        if key is None:
            keys.add(None if file == "params.yaml" else ("at",))
        else:
            parts = re.sub(r"\$\{\w+\}", "*", key).split(".")
            keys.add((*(["at"] if "scales" in file else []), *parts))
    return keys


def _used(file: Path) -> set[tuple[str, ...]]:
    """The chains ``params.x.y`` in ``file``, local names for parts of them followed."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names: dict[str, tuple[str, ...]] = {"params": ()}
    inner: set[int] = set()  # parts of longer chains, and what only gets a name
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets, values = node.targets[0], node.value
            pairs = (
                zip(targets.elts, values.elts, strict=True)
                if isinstance(targets, ast.Tuple) and isinstance(values, ast.Tuple)
                else [(targets, values)]
            )
            for target, value in pairs:
                found = _chain(value, names)
                if isinstance(target, ast.Name) and found:
                    names[target.id] = found
                    inner.add(id(value))
    inner |= {id(node.value) for node in ast.walk(tree) if isinstance(node, CHAIN)}
    chains = {
        _chain(node, names)
        for node in ast.walk(tree)
        if isinstance(node, CHAIN) and id(node) not in inner
    }
    used = {chain for chain in chains if chain}
    named = {part for part in names.values() if part}
    used |= {part for part in named if not any(_within(chain, part) for chain in used)}
    return {chain for chain in used if chain[0] not in POINT}


def _chain(node: ast.AST, names: dict[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and node.attr == "params":
        return ()
    if isinstance(node, ast.Attribute):
        inner = _chain(node.value, names)
        return None if inner is None else (*inner, node.attr)
    if isinstance(node, ast.Subscript):
        inner = _chain(node.value, names)
        return None if not inner else (*inner, "*")
    return None


def _within(key: tuple[str, ...], section: tuple[str, ...]) -> bool:
    """Whether ``key`` names something in ``section`` or a section around it."""
    return key[: len(section)] == section


def test_the_conda_environment_is_that_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (pip,) = [
        entry["pip"]
        for entry in yaml.safe_load((ROOT / "workflow/envs/fcotvl.yaml").read_text())[
            "dependencies"
        ]
        if isinstance(entry, dict)
    ]
    assert pip == project["dependencies"]
