"""``workflow/scales/<scale>.yaml``: which model, and which budgets.

Defaults are the paper's setting: InternVL2, and FCoT-VL's 2 M alignment and 4.5 M instruction samples with the rates of
InternVL2's own training scripts. A scale file says what differs.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from fcotvl.core.config.architecture import TINY_PROMPTS, TileParams
from fcotvl.core.prompts import Prompts
from fcotvl.core.section import Option, Section, Share


class ModelParams(TileParams):
    """The teacher, and how images are cut for it."""

    hub: str | None = None
    """Hub id of the original checkpoint; none at the scales that ship or train their teacher."""
    revision: str | None = None
    """Commit or tag on the hub; none: the newest."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Number type of the frozen weights (tiny: float32)."""
    threads: PositiveInt | None = None
    """CPU threads of a stage, whatever ``OMP_NUM_THREADS`` says: how sums are rounded depends on their number. None
    leaves it to the environment, where an accelerator computes."""


class OptimParams(Section):
    """A training loop."""

    steps: PositiveInt
    batch_size: PositiveInt = 128
    """Images per step, over all processes."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """InternVL2 was trained with AdamW. Muon orthogonalises the updates of matrices; the same rates fit both."""
    lr: PositiveFloat
    """Peak learning rate."""
    warmup: Share = 0.03
    """Share of the steps before the peak of the cosine schedule."""
    weight_decay: NonNegativeFloat = 0.01


class DistillBudget(OptimParams):
    """Re-alignment: one epoch of 2 M images.

    The paper gives no rate; InternVL2.5 uses this one where only the projector learns.
    """

    steps: PositiveInt = 15625
    lr: PositiveFloat = 2e-4
    lr_by_compressor: dict[str, PositiveFloat] = {}
    """Peak rates of the compressors that learn best at another than ``lr``."""


class SftBudget(OptimParams):
    """Post-training: one epoch of 4.5 M samples, at the rate of InternVL2's fine-tuning scripts."""

    steps: PositiveInt = 35156
    lr: PositiveFloat = 4e-5
    checkpoints: Annotated[int, Field(ge=1, le=16)] = 4
    """Pool for merging, evenly spaced. Up to 8 are valued exactly, by 2**checkpoints coalitions; more by
    ``merge.permutations``."""
    reweigh: PositiveInt = 500
    """Steps between two updates of the sampling weights."""


class RscotBudget(Section):
    """Budget of rejection sampling."""

    questions: PositiveInt = 200_000
    batch_size: PositiveInt = 16
    """Replies that are decoded together."""


class MergeBudget(Section):
    """Budget of the coalition scores."""

    questions: PositiveInt = 1000
    """Validation questions per coalition."""


class EvaluateBudget(Section):
    """Budget of evaluation."""

    batch_size: PositiveInt = 8
    """Replies that are decoded together."""
    speed_pairs: PositiveInt = 7
    """Interleaved teacher/student measurements behind a speed ratio."""
    speed_batch: PositiveInt = 1
    """Images in the batch that speed is measured on."""


class Scale(Section):
    """What belongs to a scale: the model and the budgets of every stage."""

    title: str
    model: ModelParams
    prompts: Prompts = Prompts()
    train_teacher: dict[str, Option] = {}
    """Budget of ``teacher.source=train``: keyword arguments of its recipe."""
    distill: DistillBudget = DistillBudget()
    rscot: RscotBudget = RscotBudget()
    sft: SftBudget = SftBudget()
    merge: MergeBudget = MergeBudget()
    evaluate: EvaluateBudget = EvaluateBudget()

    @model_validator(mode="before")
    @classmethod
    def _prompts_of_the_tiny_model(cls, values: Any) -> Any:
        match values:
            case {"model": {"architecture": "tiny"}}:
                given = values.get("prompts", {})
                if isinstance(given, dict):
                    return values | {"prompts": TINY_PROMPTS | given}
        return values
