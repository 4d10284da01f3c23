"""dvc.yaml in Snakemake's notation: ``${ratio}`` becomes the wildcard ``{ratio}``."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from fcotvl.core.config import overlaid
from fcotvl.core.io import read_yaml
from fcotvl.dag.subprocesses import EngineError

WILDCARDS = ("compressor", "ratio", "seed", "recipe")
VARIABLE = re.compile(r"\$\{([\w.]+)\}")
GATE = "data/check.txt"
"""The constant output of ``check``, a dependency of every other stage under DVC. It is no input of a rule: the
Snakefile validates when parsed, and cannot know that the file will be the same."""
VARIANT = "data/{scale}/{compressor}-r{ratio}-s{seed}/{recipe}"

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """One entry of dvc.yaml, its ``${...}`` untouched."""

    name: str
    desc: str
    cmd: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[tuple[str, str | None], ...]
    """Pairs of a file and a key in it (none: every key)."""
    items: str | None
    """The key of params.yaml that a ``foreach`` runs over."""

    @property
    def varies(self) -> bool:
        """Whether the outputs differ between variants; those of ``report`` do not."""
        names = {name for out in self.outs for name in VARIABLE.findall(out)}
        return not names.isdisjoint({*WILDCARDS, "item"})


@dataclass(frozen=True)
class Rule:
    """A stage in Snakemake's notation; params and command are functions of the wildcards."""

    input: list[str]
    output: list[str]
    params: list[Callable[[Values], str]]
    command: Callable[[Values], str]


@dataclass(frozen=True)
class Job:
    """A stage of one experiment, with every variable filled in."""

    stage: str
    cmd: str
    inputs: list[str]
    outs: list[str]
    params: list[str]


class Pipeline:
    """The stages of dvc.yaml with the values of params.yaml, of its scale and of its mix.

    Args:
        root: folder of dvc.yaml and params.yaml.
        overlay: file below ``root`` whose values stand in place of those of params.yaml; commands name it.
        point: values that stand in place of both.
    """

    def __init__(self, root: Path = Path(), overlay: str | None = None, **point: Any) -> None:
        for cached in (_read, _files_below):  # files may have changed since the last pipeline
            cached.cache_clear()
        self.root = root
        self.stages = read_stages(root / "dvc.yaml", f" --params {overlay}" if overlay else "")
        params = _read(root / "params.yaml")
        self._params = overlaid(params, _read(root / overlay)) if overlay else params
        self.values: dict[str, Any] = self._params | point

    def rule(self, name: str) -> Rule:
        """Return stage ``name`` as a rule; one that does not vary is the current experiment's."""
        stage = self.stages[name]
        paths = self.values
        if stage.varies:
            paths = self.values | {key: f"{{{key}}}" for key in WILDCARDS} | {"item": "{recipe}"}

        def command(wildcards: Values) -> str:
            values = self.values | dict(wildcards.items())
            return _fill(stage.cmd, values | {"item": values["recipe"]})

        return Rule(
            input=list(self._inputs(stage, paths)),
            output=list(self._outs(stage, paths)),
            params=[self._param(file, key) for file, key in self._keys(stage)],
            command=command,
        )

    def jobs(self, **point: Any) -> dict[str, Job]:
        """Return an experiment's jobs by DVC's names (``sft@full``); ``point`` replaces params."""
        values = self.values | point
        recipes = [*values["ablation_recipes"], values["recipe"]]
        values["ablation_recipes"] = list(dict.fromkeys(recipes))
        jobs = {}
        for stage in self.stages.values():
            for item in _look_up(values, stage.items) if stage.items else [None]:
                filled = values if item is None else values | {"item": item, "recipe": item}
                jobs[stage.name if item is None else f"{stage.name}@{item}"] = Job(
                    stage=stage.name,
                    cmd=_fill(stage.cmd, filled),
                    inputs=list(self._inputs(stage, filled)),
                    outs=list(self._outs(stage, filled)),
                    params=[self._param(*pair)(filled) for pair in self._keys(stage)],
                )
        return jobs

    def grid(self) -> list[dict[str, Any]]:
        """Return the points of the ablation: every combination of the lists in params.yaml."""
        axes = self.values["ablation"]
        return [dict(zip(axes, point, strict=True)) for point in product(*axes.values())]

    def grid_folders(self) -> list[str]:
        """Return the folder of each point of the grid."""
        return [VARIANT.format(scale=self.values["scale"], **point) for point in self.grid()]

    def _outs(self, stage: Stage, values: Values) -> Iterator[str]:
        is_open = stage.items and "item" not in values
        for item in _look_up(values, str(stage.items)) if is_open else [values.get("item")]:
            yield from (_fill(out, {**values, "item": item}) for out in stage.outs)

    def _inputs(self, stage: Stage, values: Values) -> Iterator[str]:
        """The deps; a folder of sources, or of several stages' outputs, as its files."""
        outputs = [out for other in self.stages.values() for out in self._outs(other, values)]
        for dep in stage.deps:
            path = _fill(dep, values)
            below = [out for out in outputs if out.startswith(f"{path}/")]
            if path == GATE:
                continue
            if path in outputs:
                yield path
            elif below:
                yield from below
            elif (self.root / path).is_dir():
                yield from map(_checked, _files_below(self.root / path, self.root))
            else:
                yield _checked(path)

    def _keys(self, stage: Stage) -> Iterator[tuple[str, str]]:
        for file, key in stage.params:
            yield from ((file, name) for name in ([key] if key else self._source(file)))

    def _param(self, file: str, key: str) -> Callable[[Values], str]:
        """``key=value`` as a function of the wildcards: Snakemake compares only the texts."""

        def param(wildcards: Values) -> str:
            values = self.values | dict(wildcards.items())
            name = _fill(key, values | {"item": values["recipe"]})
            return f"{name}={json.dumps(_look_up(self._source(file), name), sort_keys=True)}"

        return param

    def _source(self, file: str) -> dict[str, Any]:
        return self._params if file == "params.yaml" else _read(self.root / _fill(file, self.values))


def read_stages(path: Path, flags: str = "") -> dict[str, Stage]:
    """Return the stages of ``path`` by name, in its order; ``flags`` end each command."""
    stages = {}
    for name, entry in read_yaml(path)["stages"].items():
        body = entry.get("do", entry)
        items = VARIABLE.fullmatch(entry.get("foreach", ""))
        outs = [out for kind in ("outs", "metrics", "plots") for out in _names(body.get(kind, ()))]
        stages[name] = Stage(
            name=name,
            desc=body.get("desc", name),
            cmd=body["cmd"] + flags,
            deps=tuple(_names(body.get("deps", ()))),
            outs=tuple(outs),
            params=tuple(_pairs(body.get("params", ()))),
            items=items[1] if items else None,
        )
    return stages


def _names(entries: Iterable[Any]) -> list[str]:
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def _pairs(entries: Iterable[Any]) -> Iterator[tuple[str, str | None]]:
    for entry in entries:
        if isinstance(entry, str):
            yield "params.yaml", entry
        else:
            for file, keys in entry.items():
                yield from ((file, key) for key in keys or (None,))


@cache
def _read(path: Path) -> dict[str, Any]:
    return read_yaml(path)


@cache
def _files_below(folder: Path, root: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    files = (path.relative_to(root) if path.is_relative_to(root) else path for path in files)
    return sorted(str(path) for path in files if "__pycache__" not in path.parts)


def _checked(path: str) -> str:
    if re.search(r"\{.*\}", path):
        raise EngineError(
            f"{path!r}: Snakemake takes {{...}} in the name of a file for a wildcard; rename it, or use DVC"
        )
    return path


def _look_up(values: Values, key: str) -> Any:
    found: Any = values
    for part in key.split("."):
        found = found[part]
    return found


def _fill(text: str, values: Values) -> str:
    return VARIABLE.sub(lambda match: str(_look_up(values, match[1])), text)
