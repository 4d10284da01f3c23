"""``workflow/scales/<scale>.yaml``: model, sources and budgets of a scale."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fcotvl.core.config.types import Above, Count, Name, Option, Positive, Section, Share
from fcotvl.core.geometry import tokens_per_tile

Split = Literal["align", "instruct", "val", "test"]


class ModelParams(Section):
    """The teacher's shape and how it is fed."""

    hub: str | None
    """Hub id of the original checkpoint; none at the scales that ship or train their teacher."""
    revision: str | None = None
    layout: Literal["tiny", "internvl2-1b", "internvl2-2b", "internvl2-8b"]
    """The architecture, as ``fcotvl.internvl.architectures`` knows it."""
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
    def _has_a_place_for_the_question(self) -> PromptParams:
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
    images: Positive | None = None
    """How many there are, by a hub data set's card; ``fcotvl plan`` shows what is short."""
    gigabytes: Above | None = None
    """Its download, by its card."""
    optional: bool = False
    """Left out, as the audit then says, where its folder is not below ``data.raw``."""


class BenchmarkParams(Section):
    """One benchmark."""

    reader: Name
    options: dict[str, Option] = {}
    licence: str
    count: Positive
    """Questions at most."""
    max_tiles: Positive
    """Tiles per image at most, thumbnail not counted (InternVL: 12, 18 and 24 for these three)."""
    optional: bool = False
    """As for a source; a benchmark that is left out has no questions."""


class CorpusParams(Section):
    """How much is curated."""

    align: Positive
    """Images for distillation."""
    instruct: Positive
    """Images for rationales and fine-tuning."""
    val: Positive
    """Images for the merge's utility."""
    epochs: Positive
    """Times that ``align`` and ``instruct`` may hold a record of a source that runs dry before its
    share is reached; 1: never again. Up to 4, repeats are worth nearly what new data are
    (Muennighoff et al. 2023, arXiv 2305.16264). Validation pictures are never repeated."""
    shard_size: Positive
    """Records per Parquet file."""
    max_pixels: Positive
    """Larger images are quarantined before they are decoded."""
    near_duplicate: Count
    """Hamming distance of perceptual hashes (256 bits) that makes two one; 0: equal pixels."""


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
