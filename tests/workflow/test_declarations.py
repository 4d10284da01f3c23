"""What dvc.yaml declares is what stages use: code by imports, params by what their file reads."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from fcotvl.dag.pipeline import Stage, read_stages
from tests.support.imports import PACKAGE, ROOT, closure, registries

STAGES = read_stages(ROOT / "dvc.yaml")
MEMBERS = {
    ("teacher", "compress/compressors"): (),
    ("rscot", "compress/compressors"): (),
    ("predict_baselines", "compress/compressors"): ("pool.py", "_area_weights.py"),
    ("report", "compress/compressors"): ("pool.py", "_area_weights.py"),
}
"""Stages that import a registry and take only some of its files (none: only their names)."""
POINT = {"scale", "mix", "compressor", "ratio", "seed", "recipe"}
"""Params that a stage gets on its command line."""
HOW = ("scale_config", "launch")
"""Params of how a stage runs, not of what it computes: it does not rerun when they change."""
CONFIGS = {"scales": "scale_config", "mixes": "mix_config"}
MACHINE = ("scale_config", "launch")
"""How a machine computes: nothing reruns when it changes."""
CHAIN = ast.Attribute | ast.Subscript
EXPORT = ("fcotvl/export", "fcotvl/stages/export.py", "fcotvl/stages/card.py", "fcotvl/stages/convert.py")
"""What turns trained weights into something for others: its text must not retrain anything."""


def test_every_stage_is_looked_at():
    assert len(STAGES) == 18


@pytest.mark.parametrize("name", STAGES)
def test_code_deps_cover_what_the_stage_imports_and_nothing_else(name):
    declared = {ROOT / dep for dep in STAGES[name].deps if dep.startswith("fcotvl/")}
    imported = closure(_module(STAGES[name]))
    seen: set[Path] = set()
    while new := registries(imported) - seen:  # members of one may import another
        for folder in new:
            known = MEMBERS.get((name, str(folder.relative_to(PACKAGE))))
            members = set(folder.glob("*.py")) if known is None else {folder / one for one in known}
            imported |= set().union(*map(closure, members))
        seen |= new
    uncovered = {file for file in imported if not any(_is_in(file, dep) for dep in declared)}
    unused = {dep for dep in declared if not any(_is_in(file, dep) for file in imported)}
    assert (uncovered, unused) == (set(), set())


@pytest.mark.parametrize("name", STAGES)
def test_no_stage_depends_on_export_or_cards(name):
    deps = [Path(dep) for dep in STAGES[name].deps]
    assert not [path for path in EXPORT if any(_is_in(Path(path), dep) for dep in deps)]
    assert all((ROOT / path).exists() for path in EXPORT)


def test_a_compressor_is_a_dependency_of_the_student_and_what_follows_alone():
    file = Path("fcotvl/compress/compressors/cnn.py")
    readers = {name for name, stage in STAGES.items() if any(_is_in(file, Path(dep)) for dep in stage.deps)}
    assert readers == {
        "check", "distill", "sft", "merge", "speed", "harness",
        "predict_distilled", "predict_sft", "predict_merged",
    }  # fmt: skip


@pytest.mark.parametrize("command", sorted({stage.cmd.split()[3] for stage in STAGES.values()}))
def test_params_are_those_that_the_stage_file_reads(command):
    entries = [stage for stage in STAGES.values() if stage.cmd.split()[3] == command]
    declared = {key for entry in entries for key in _declared(entry)}
    used = _used(PACKAGE / f"stages/{command}.py")
    if None in declared:  # the whole of params.yaml
        declared, used = ({key for key in keys if key and key[0] in CONFIGS.values()} for keys in (declared, used))
    unread = {key for key in declared if not any(_within(one, key) for one in used)}
    undeclared = {key for key in used if not any(_within(key, one) for one in (*declared, HOW))}
    assert (unread, undeclared) == (set(), set())


def test_only_check_reruns_when_a_machine_computes_otherwise():
    scales = {name: [key for file, key in stage.params if "scales" in file] for name, stage in STAGES.items()}
    assert {name for name, keys in scales.items() if {None, "launch"} & set(keys)} == {"check"}


def _module(stage: Stage) -> Path:
    return PACKAGE / f"stages/{stage.cmd.split()[3]}.py"


def _is_in(path: Path, place: Path) -> bool:
    return path.is_relative_to(place)


def _declared(stage: Stage) -> set[tuple[str, ...] | None]:
    keys = set()
    for file, key in stage.params:
        config = [CONFIGS[part] for part in Path(file).parts if part in CONFIGS]
        if key is None:
            keys.add(tuple(config) or None)
        else:
            keys.add((*config, *re.sub(r"\$\{\w+\}", "*", key).split(".")))
    return keys


def _used(file: Path) -> set[tuple[str, ...]]:
    """The chains ``params.x.y`` in ``file``, or those of a method ``params.x()``."""
    methods = {
        node.name: node
        for node in ast.walk(ast.parse((PACKAGE / "core/config/study.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    chains = _chains(ast.parse(file.read_text(encoding="utf-8")), "params")
    read = {chain for chain in chains if chain[0] not in methods}
    read |= {part for chain in chains - read for part in _chains(methods[chain[0]], "self")}
    return {chain for chain in read if chain[0] not in POINT and chain[:2] != MACHINE}


def _chains(tree: ast.AST, params: str) -> set[tuple[str, ...]]:
    """The chains from the name ``params`` on, local names for parts of them followed."""
    names: dict[str, tuple[str, ...]] = {params: ()}
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
    chains = {_chain(node, names) for node in ast.walk(tree) if isinstance(node, CHAIN) and id(node) not in inner}
    used = {chain for chain in chains if chain}
    named = {part for part in names.values() if part}
    return used | {part for part in named if not any(_within(chain, part) for chain in used)}


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
