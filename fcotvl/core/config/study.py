"""``params.yaml``: the parameters of the study."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fcotvl.core.config.architecture import Architecture
from fcotvl.core.config.mix import Mix
from fcotvl.core.config.scale import Scale, SftBudget
from fcotvl.core.geometry import RATIOS
from fcotvl.core.section import Count, Name, Option, Positive, Rate, Ratio, Section, Seed, Share, Weight

Temperature = Annotated[float, Field(ge=0.01, le=100)]
MAX_GRID = 10_000
"""Points of the ablation grid."""


class DataParams(Section):
    """The user's own data."""

    raw: str
    """Folder with official data sets, read by the scales that name them."""


class TeacherParams(Section):
    """Where the teacher comes from."""

    source: Literal["pretrained", "train"]
    """``pretrained``: bundled or the scale's hub id; ``train``: from nothing (tiny only)."""


class LossParams(Section):
    """Loss = ce_weight * cross-entropy + (1 - ce_weight) * KL(teacher || student) + hidden_weight * distance."""

    ce_weight: Share = 1.0
    """The paper fine-tunes by cross-entropy alone; it gives no weights of distillation."""
    hidden_weight: Weight = 0.0
    """Of the distance from the teacher's hidden states, which the paper does not have."""

    @property
    def asks_teacher(self) -> bool:
        """Does the loss depend on the teacher?"""
        return self.ce_weight < 1 or self.hidden_weight > 0


class RecipeParams(LossParams):
    """A named post-training recipe: one row of the module ablation."""

    cot: Share
    """Share of fine-tuning samples that are rationales; the rest are direct answers."""
    rationales: Literal["accepted", "all"] = "accepted"
    """Samples that end in the right answer, as in the paper; or as many whatever they answer."""
    sources: tuple[str, ...] = ()
    """Sources of the corpus that are fine-tuned on; none: all."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Of the learning rate after the warm-up. Checkpoints of a constant rate are points of one trajectory."""
    resampling: Name
    """A rule of ``fcotvl.train.resampling``."""
    steps: Count | None = None
    """Steps of fine-tuning, in place of the scale's."""
    lr: Rate | None = None
    """Peak learning rate, in place of the scale's."""


class DistillParams(LossParams):
    """Re-alignment by self-distillation (section 3.1)."""

    temperature: Temperature
    ce_weight: Share
    positions: Literal["consecutive", "spread"] = "consecutive"
    """Of visual tokens in the LLM: counted one by one, as InternVL's code does, or those that the teacher's have."""


class RscotParams(Section):
    """Rejection sampling of rationales (section 3.2; values of InternVL's sampler, MMPR)."""

    temperature: Temperature
    top_k: Count
    max_per_question: Count
    """Distinct rationales kept per question."""
    min_similarity: Share
    """Least similarity at which a text answer counts as right."""


class ResamplingParams(Section):
    """Loss-driven resampling of data sets (section 3.2; DoReMi's form, arXiv 2305.10429)."""

    eta: Positive
    """Step size of the exponentiated update."""
    alpha: Annotated[float, Field(gt=0, le=100)]
    """Exponent of the ``power`` rule."""
    floor: Share
    """Least sampling weight of a data set, as a share of its initial one."""
    cap: Annotated[float, Field(ge=1, le=1e6)]
    """Largest sampling weight, as a multiple of the initial one."""


class MergeParams(Section):
    """What checkpoints are worth, and from that to merging weights (section 3.2; the formula is our choice)."""

    headline: Name
    """The method whose student is the result."""
    methods: tuple[Name, ...]
    """Names from ``fcotvl.merge.methods.available()``: a merged student for each."""
    prompts: Annotated[tuple[Literal["direct", "cot"], ...], Field(min_length=1)]
    """The questions of each source take these in turn."""
    singles: bool
    """Evaluate each checkpoint alone, too."""

    weights: Literal["clip", "softmax", "sum"]
    """Negative values become 0, or a softmax over all values, or the values as they are."""
    tau: Positive
    """Temperature of ``softmax``, in the unit of the utility (a share of right answers)."""
    permutations: Annotated[int, Field(ge=2, le=100_000)]
    """Pairs of permutations behind the values of a pool of more than 8 checkpoints."""


class BaselineParams(Section):
    """Training-free systems, scored beside the students."""

    methods: tuple[Name, ...]
    """Names from ``fcotvl.inference.pruning.available()``: those that are asked."""
    ratios: tuple[Ratio, ...]
    """Shares of visual tokens that each of them removes."""
    fastv_layer: Count
    """FastV's K: tokens are dropped before layer K, ranked by the attention of layer K - 1."""


class ScoreParams(Section):
    """How scores are reported."""

    resamples: Annotated[int, Field(ge=1, le=1_000_000)]
    """Bootstrap resamples behind a 95 % interval."""


class AblationParams(Section):
    """The grid of ``snakemake ablation``: every combination."""

    compressor: tuple[Name, ...]
    ratio: tuple[Ratio, ...]
    seed: tuple[Seed, ...]
    recipe: tuple[Name, ...]


class Grid(Section):
    """One comparison of the study: every combination of its lists."""

    title: str
    scale: tuple[Name, ...] = ()
    """Scales that its students are trained at; none: that of the study."""
    compressor: tuple[Name, ...]
    ratio: tuple[Ratio, ...]
    seed: tuple[Seed, ...]
    recipe: tuple[Name, ...] = ()
    """Recipes that each distilled student is fine-tuned with; none: it stays as it is."""
    merged: bool = False
    """Merge the checkpoints of each fine-tuned student."""
    pool: dict[Name, tuple[int, ...]] = {}
    """Merge checkpoints of several recipes instead, which are fine-tuned for it: which of each, in their order from 0;
    -1 is the last."""
    serve: tuple[Ratio, ...] = ()
    """Further ratios that each distilled student is asked at, of a compressor whose weights serve several."""
    attention: bool = False
    """Measure where teacher and students look while they answer, at the study's own scale."""

    def points(self, scale: str) -> Iterator[dict[str, Any]]:
        """Every combination of compressor, ratio, seed and recipe (if any) at each scale; ``scale`` if it has none."""
        axes = {"scale": self.scale or (scale,), "compressor": self.compressor, "ratio": self.ratio, "seed": self.seed}
        axes |= {"recipe": self.recipe} if self.recipe else {}
        return (dict(zip(axes, point, strict=True)) for point in product(*axes.values()))


class Study(Section):
    """``params.yaml`` as it is written."""

    scale: Name
    """``workflow/scales/<scale>.yaml``: which model, which budgets."""
    mix: Name
    """``workflow/mixes/<mix>.yaml``: which data."""
    compressor: Name
    ratio: Ratio
    seed: Seed
    data_seed: Seed
    """Drives curation, teacher and rationales, so that replicates share their benchmark."""
    recipe: Name
    ablation_recipes: tuple[Name, ...]
    """Recipes that are fine-tuned: the rows of the module ablation."""
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
    grids: dict[Name, Grid] = {}
    """What ``workflow/study.yaml`` compares."""
    shapes: dict[Architecture, Literal["measured", "extrapolated"]] = {}
    """At whose true shapes the study times what compression saves, as they are or from models of few layers."""

    @model_validator(mode="after")
    def _names_and_ratios_are_known(self) -> Study:
        grids: list[AblationParams | Grid] = [self.ablation, *self.grids.values()]
        for ratio in (
            self.ratio,
            *self.baselines.ratios,
            *(ratio for grid in grids for ratio in grid.ratio + getattr(grid, "serve", ())),
        ):
            if ratio not in RATIOS:
                raise ValueError(f"ratio {ratio} is not one of {', '.join(map(str, RATIOS))}")
        pooled = [recipe for grid in self.grids.values() for recipe in grid.pool]
        for recipe in (self.recipe, *self.ablation_recipes, *(r for grid in grids for r in grid.recipe), *pooled):
            if recipe not in self.recipes:
                raise ValueError(f"recipe {recipe!r} is not under recipes ({', '.join(self.recipes)})")
        grid = self.ablation
        points = len(grid.compressor) * len(grid.ratio) * len(grid.seed) * len(grid.recipe)
        if points > MAX_GRID:
            raise ValueError(f"ablation is a grid of {points} points; expected at most {MAX_GRID}")
        if self.merge.headline not in self.merge.methods:
            raise ValueError(f"merge.headline is {self.merge.headline!r}, which must be listed in merge.methods")
        if self.recipe not in self.ablation_recipes:
            raise ValueError(f"recipe {self.recipe!r} must be listed in ablation_recipes, to be trained")
        return self


class Params(Study):
    """The study with its scale and its mix resolved."""

    scale_config: Scale
    mix_config: Mix

    @property
    def scales(self) -> tuple[str, ...]:
        """The scale, then others that grids name."""
        return tuple(dict.fromkeys([self.scale, *(scale for grid in self.grids.values() for scale in grid.scale)]))

    def sft_budget(self, recipe: str) -> SftBudget:
        """The scale's budget of fine-tuning, with its steps and rate for the recipe, or the recipe's own."""
        budget, own = self.scale_config.sft, self.recipes[recipe]
        steps = own.steps or budget.steps_by_recipe.get(recipe, budget.steps)
        lr = own.lr or budget.lr_by_recipe.get(recipe, budget.lr)
        return budget.model_copy(update={"steps": steps, "lr": lr})

    @model_validator(mode="after")
    def _recipes_have_budgets(self) -> Params:
        for key in ("steps_by_recipe", "lr_by_recipe"):
            if unknown := sorted(getattr(self.scale_config.sft, key).keys() - self.recipes.keys()):
                raise ValueError(f"sft.{key} of scale {self.scale} names {unknown[0]!r}, which is not under recipes")
        for name, recipe in self.recipes.items():
            key = f"recipes.{name}.steps" if recipe.steps else f"sft.steps_by_recipe.{name} of scale {self.scale}"
            self.sft_budget(name).check_pool(key)
        return self
