"""Every setting, typed once: ``params.yaml`` (the study), its scale and its mix.

Values live in YAML; this package gives their types, units, ranges and sources. Defaults are the paper's values, in
``scale`` alone. Where the paper gives none, the YAML must.
"""

import difflib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from fcotvl.core.config.mix import BenchmarkParams, CorpusParams, Mix, SourceParams
from fcotvl.core.config.scale import OptimParams, Scale, TeacherBudget
from fcotvl.core.config.study import (
    DistillParams,
    Grid,
    LossParams,
    MergeParams,
    Params,
    RecipeParams,
    ResamplingParams,
    RscotParams,
    Study,
)
from fcotvl.core.errors import ParamsError
from fcotvl.core.io import read_yaml

__all__ = [
    "BenchmarkParams",
    "CorpusParams",
    "DistillParams",
    "Grid",
    "LossParams",
    "MergeParams",
    "Mix",
    "OptimParams",
    "Params",
    "RecipeParams",
    "ResamplingParams",
    "RscotParams",
    "Scale",
    "SourceParams",
    "TeacherBudget",
    "json_schemas",
    "load",
    "overlaid",
    "shorten",
]

STUDY = Path("params.yaml")
SCALES = Path("workflow/scales")
MIXES = Path("workflow/mixes")
LONGEST = 80
"""Characters of a wrong value that a message shows."""

Model = TypeVar("Model", bound=BaseModel)


def load(study: Path = STUDY, overlay: Path | None = None, **overrides: Any) -> Params:
    """Return the validated params.

    Args:
        study: the file ``params.yaml``.
        overlay: YAML file whose values stand in place of the study's, as ``workflow/study.yaml``.
        overrides: values that stand in place of both (a stage's flags).

    Raises:
        ParamsError: a file is missing or not YAML, a key is unknown or missing, a value is wrong.
    """
    values = read_yaml(study)
    if overlay:
        values = overlaid(values, read_yaml(overlay))
        where = Path(f"{overlay}, over {study}")
    else:
        where = study
    values |= {k: v for k, v in overrides.items() if v is not None}
    if overrides.get("recipe") and isinstance(values.get("ablation_recipes"), list):  # whoever names it trains it
        values["ablation_recipes"] = list(dict.fromkeys([*values["ablation_recipes"], overrides["recipe"]]))
    for key, folder, model in (("scale", SCALES, Scale), ("mix", MIXES, Mix)):
        files = {path.stem: path for path in sorted((study.parent / folder).glob("*.yaml"))}
        if not isinstance(name := values.get(key), str) or name not in files:
            raise ParamsError(f"{where}: {key} {shorten(name)} is not one of {', '.join(files)}")
        path = files[name]
        values[f"{key}_config"] = _validate(model, read_yaml(path), path)
    return _validate(Params, values, where)


def overlaid(values: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """``values`` with those of ``overlay`` in their place; of sections, only the keys that it has."""
    merged = dict(values)
    for key, value in overlay.items():
        old = merged.get(key)
        merged[key] = overlaid(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _validate(model: type[Model], values: dict[str, Any], path: Path) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ParamsError(f"{path}: {_explain(error, model)}") from error


def json_schemas() -> dict[str, dict[str, Any]]:
    """JSON schemas of the three kinds of YAML files: ``params``, ``scale`` and ``mix``."""
    models: dict[str, type[BaseModel]] = {"params": Study, "scale": Scale, "mix": Mix}
    dialect = {"$schema": GenerateJsonSchema.schema_dialect}
    return {name: dialect | model.model_json_schema() for name, model in models.items()}


def shorten(value: Any) -> str:
    """``value`` for a message: one line, and never a long one."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Pydantic's findings on one line: where, what was found, what was expected."""
    findings = []
    for item in error.errors():
        where = ".".join(part if part.isprintable() else repr(part) for part in map(str, item["loc"]))
        if item["type"] == "extra_forbidden":
            known = _siblings(model, item["loc"])
            close = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            findings.append(f"unknown key {where} ({hint})")
        elif item["type"] == "missing":
            findings.append(f"{where} is missing")
        else:
            message = item["msg"].removeprefix("Value error, ")
            whole = isinstance(item["input"], dict | BaseModel)
            found = "" if whole else f" (found {shorten(item['input'])})"
            findings.append(f"{where}: {message}{found}" if where else message)
    return "; ".join(findings)


def _siblings(model: Any, loc: tuple[int | str, ...]) -> list[str]:
    """The keys that are known beside the last part of ``loc``; none where any key is allowed."""
    for part in loc[:-1]:
        if fields := getattr(model, "model_fields", None):
            model = fields[str(part)].annotation
        else:  # a mapping's values, or a sequence's items
            model = model.__args__[-1 if isinstance(part, str) else 0]
    return list(getattr(model, "model_fields", ()))
