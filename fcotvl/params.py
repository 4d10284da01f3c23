"""Every knob, typed once: ``params.yaml`` (the study) and ``workflow/scales/<scale>.yaml``.

Values live in YAML; this file gives their types, units, ranges and sources. Frozen, and an unknown
key is an error. Where the paper is silent there is no default here: the YAML must say it.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fcotvl.errors import ParamsError
from fcotvl.geometry import RATIOS, tokens_per_tile

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Above = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Option = bool | int | float | str
Split = Literal["align", "instruct", "val", "test"]

STUDY = Path("params.yaml")
SCALES = Path("workflow/scales")


class Section(BaseModel):
    """A block of YAML. Frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


# --- params.yaml: the study -----------------------------------------------------------------


class DataParams(Section):
    """The user's own data."""

    raw: str
    """Folder with official data sets, read by the scales that name them."""


class TeacherParams(Section):
    """Where the teacher comes from."""

    source: Literal["pretrained", "train"]
    """``pretrained``: the bundled one, or the scale's hub id; ``train``: from nothing (tiny only)."""


class RecipeParams(Section):
    """A named post-training recipe: one row of the module ablation."""

    cot: Share
    """Share of fine-tuning samples that are rationales; the rest are direct answers."""
    resampling: Name
    """A rule of ``fcotvl.train.resampling``."""
    merge: Name
    """A rule of ``fcotvl.merge.rules``: the one whose student is the headline."""


class DistillParams(Section):
    """Re-alignment by self-distillation (section 3.1). The paper gives no weights: our choice."""

    temperature: Above
    ce_weight: Share
    """Loss = (1 - ce_weight) * KL(teacher || student) + ce_weight * cross-entropy."""


class RscotParams(Section):
    """Rejection sampling of rationales (section 3.2; values of InternVL's sampler, MMPR)."""

    samples: Positive
    """Drawn per question."""
    temperature: Above
    top_k: Positive
    cap: Positive
    """Distinct rationales kept per question."""
    similar: Share
    """Least similarity at which a text answer counts as right."""


class ResamplingParams(Section):
    """Loss-driven resampling of data sets (section 3.2; DoReMi's form, arXiv 2305.10429)."""

    eta: Above
    """Step size of the exponentiated update."""
    alpha: Above
    """Exponent of the ``power`` rule."""
    floor: Share
    """Least sampling weight of a data set, as a share of uniform."""
    cap: Annotated[float, Field(ge=1)]
    """Largest sampling weight, as a multiple of uniform."""


class MergeParams(Section):
    """From Shapley values to merging weights (section 3.2; the formula is our choice)."""

    weights: Literal["clip", "softmax", "sum"]
    tau: Above
    """Temperature of ``softmax``, in the unit of the utility (a share of right answers)."""


class BaselineParams(Section):
    """Training-free systems, scored beside the students."""

    ratios: tuple[float, ...]
    """Shares of visual tokens that FastV, random pruning and untrained pooling remove."""
    fastv_layer: Positive
    """FastV's K: tokens are dropped before layer K, ranked by the attention of layer K - 1."""


class ScoreParams(Section):
    """How scores are reported."""

    resamples: Positive
    """Bootstrap resamples behind a 95 % interval."""


class AblationParams(Section):
    """The grid of ``snakemake ablation``: every combination."""

    compressor: tuple[Name, ...]
    ratio: tuple[float, ...]
    seed: tuple[Count, ...]
    recipe: tuple[Name, ...]


# --- workflow/scales/<scale>.yaml -------------------------------------------------------------


class ModelParams(Section):
    """The teacher's shape and how it is fed."""

    hub: str | None
    """Hub id of the original checkpoint; none at the scales that ship or train their teacher."""
    revision: str | None = None
    layout: Literal["tiny", "internvl2-1b", "internvl2-2b", "internvl2-8b"]
    """Which architecture ``fcotvl.models`` builds; real layouts are built with random weights in checks."""
    image_size: Positive
    """Side of a tile, pixels."""
    patch_size: Positive
    factor: Positive
    """Pixel-shuffle factor."""
    max_tiles: Positive
    """Tiles per training image at most, thumbnail not counted."""
    dtype: Literal["float32", "bfloat16"]

    @property
    def tokens(self) -> int:
        """Visual tokens of one tile before compression."""
        return tokens_per_tile(self.image_size, self.patch_size, self.factor)


class PromptParams(Section):
    """Prompt templates with ``{question}``, and how many tokens a reply may have."""

    direct: str
    cot: str
    direct_tokens: Positive
    cot_tokens: Positive

    @model_validator(mode="after")
    def _has_a_place_for_the_question(self) -> Self:
        for name in ("direct", "cot"):
            if "{question}" not in getattr(self, name):
                raise ValueError(f"prompts.{name} has no {{question}}")
        return self


class SourceParams(Section):
    """One source of training images."""

    reader: Name
    """A reader of ``fcotvl.data.sources``."""
    options: dict[str, Option] = {}
    """Its keyword arguments: a folder below ``data.raw``, a hub id, a family of the renderer."""
    weight: Above
    """Share of the mix, relative to the other sources."""
    licence: str
    splits: tuple[Split, ...] = ("align", "instruct", "val")
    """What it feeds."""
    size: str | None = None
    """What a reader of a hub source should know of its size (images, pairs, disk)."""


class BenchmarkParams(Section):
    """One benchmark."""

    reader: Name
    options: dict[str, Option] = {}
    licence: str
    count: Positive
    """Questions at most."""
    max_tiles: Positive
    """Tiles per image at most, thumbnail not counted (InternVL: ChartQA 12, DocVQA 18, InfoVQA 24)."""


class CorpusParams(Section):
    """How much is curated."""

    align: Positive
    """Images for distillation."""
    instruct: Positive
    """Images for rationales and fine-tuning."""
    val: Positive
    """Images for the merge's utility."""
    shard_size: Positive
    """Records per Parquet file."""
    max_pixels: Positive
    """Larger images are quarantined before they are decoded."""
    near_duplicate: Count
    """Hamming distance of perceptual hashes (64 bits) up to which two images are the same."""


class OptimParams(Section):
    """A training loop."""

    steps: Positive
    batch_size: Positive
    """Images a step."""
    lr: Above
    warmup: Share
    """Share of the steps before the peak of the cosine schedule."""
    weight_decay: Annotated[float, Field(ge=0)]


class SftParams(OptimParams):
    """Post-training."""

    checkpoints: Annotated[int, Field(ge=1, le=8)]
    """Pool for merging, evenly spaced; exact Shapley values need 2**checkpoints coalitions."""
    reweigh: Positive
    """Steps between two updates of the sampling weights."""


class ScaleRscotParams(Section):
    """Budget of rejection sampling."""

    questions: Positive
    batch_size: Positive


class ScaleMergeParams(Section):
    """Budget of the coalition scores."""

    questions: Positive
    """Validation questions per coalition."""


class EvaluateParams(Section):
    """Budget of evaluation."""

    batch_size: Positive
    speed_pairs: Positive
    """Interleaved teacher/student measurements behind a speed ratio."""
    speed_batch: Positive
    """Images in the batch that speed is measured on."""


class Scale(Section):
    """What belongs to a scale: model, sources and weights, budgets."""

    title: str
    model: ModelParams
    prompts: PromptParams
    sources: tuple[SourceParams, ...] = Field(min_length=1)
    benchmarks: dict[Literal["docvqa", "chartqa", "infovqa"], BenchmarkParams] = Field(min_length=1)
    corpus: CorpusParams
    train_teacher: dict[str, Option]
    """Budget of ``teacher.source=train``: keyword arguments of its recipe."""
    distill: OptimParams
    rscot: ScaleRscotParams
    sft: SftParams
    merge: ScaleMergeParams
    evaluate: EvaluateParams


class Params(Section):
    """``params.yaml`` with its scale resolved in ``at``."""

    scale: Name
    compressor: Name
    ratio: float
    seed: Count
    data_seed: Count
    """Drives curation, teacher and rationales, so that replicates share their benchmark."""
    recipe: Name
    modules: tuple[Name, ...]
    recipes: dict[Name, RecipeParams]
    data: DataParams
    teacher: TeacherParams
    compressors: dict[Name, dict[str, Option]]
    """Options of compressors that take any."""
    distill: DistillParams
    rscot: RscotParams
    resampling: ResamplingParams
    merge: MergeParams
    baselines: BaselineParams
    score: ScoreParams
    ablation: AblationParams
    at: Scale

    @model_validator(mode="after")
    def _names_and_ratios_are_known(self) -> Self:
        for ratio in (self.ratio, *self.baselines.ratios, *self.ablation.ratio):
            if ratio not in RATIOS:
                raise ValueError(f"ratio {ratio} is not one of {', '.join(map(str, RATIOS))}")
        for recipe in (self.recipe, *self.modules, *self.ablation.recipe):
            if recipe not in self.recipes:
                raise ValueError(
                    f"recipe {recipe!r} is not under recipes ({', '.join(self.recipes)})"
                )
        if self.recipe not in self.modules:
            raise ValueError(f"recipe {self.recipe!r} must be listed in modules, to be trained")
        return self


# --- reading ----------------------------------------------------------------------------------


def load(study: Path = STUDY, **overrides: Any) -> Params:
    """Return the validated params; ``overrides`` replace values of the study (a stage's flags).

    Raises:
        ParamsError: a file is missing or not YAML, a key is unknown or missing, a value is wrong.
    """
    values = read_yaml(study) | {k: v for k, v in overrides.items() if v is not None}
    scale = values.get("scale")
    path = study.parent / SCALES / f"{scale}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise ParamsError(f"{study}: scale {scale!r} is not one of {known}")
    try:
        at = Scale.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ParamsError(f"{path}: {explain(error, Scale)}") from error
    try:
        return Params.model_validate(values | {"at": at})
    except ValidationError as error:
        raise ParamsError(f"{study}: {explain(error, Params)}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in ``path``.

    Raises:
        ParamsError: the file is missing or holds something else.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ParamsError(f"{path} not found; run in the project's folder") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ParamsError(f"{path} holds {type(values).__name__}, expected a mapping")
    return values


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Return pydantic's findings as one line: where, what was found, what was expected."""
    findings = []
    for item in error.errors():
        where = ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden":
            known = _siblings(model, item["loc"])
            close = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            findings.append(f"unknown key {where} ({hint})")
        elif item["type"] == "missing":
            findings.append(f"{where} is missing")
        else:
            message = item["msg"].removeprefix("Value error, ")
            found = "" if isinstance(item["input"], dict | BaseModel) else f" (found {item['input']!r})"
            findings.append(f"{where}: {message}{found}" if where else message)
    return "; ".join(findings)


def _siblings(model: Any, loc: tuple[int | str, ...]) -> list[str]:
    """The keys that are known beside the last part of ``loc``."""
    for part in loc[:-1]:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        else:
            model = getattr(model, "__args__", [None])[-1 if isinstance(part, str) else 0]
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
