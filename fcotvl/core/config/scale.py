"""``workflow/scales/<scale>.yaml``: which model, and which budgets.

Defaults are the paper's setting: InternVL2, and steps for FCoT-VL's 2 M alignment and 4.5 M instruction samples at the
rates of InternVL2's own training scripts. A scale file says what differs.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fcotvl.core.config.architecture import TINY_PROMPTS, TileParams
from fcotvl.core.prompts import Prompts
from fcotvl.core.section import Count, Rate, Section, Share

Steps = Annotated[int, Field(ge=0, le=10**9)]
Batch = Annotated[int, Field(ge=1, le=100_000)]


class ModelParams(TileParams):
    """The teacher, and how images are cut for it."""

    hub: str | None = None
    """Hub id of the original checkpoint, or a folder that holds it; none at the scales that ship or train their
    teacher."""
    revision: str | None = None
    """Commit or tag on the hub; none: the newest."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Number type of the frozen weights (tiny: float32)."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads of a stage, whatever ``OMP_NUM_THREADS`` says: how sums are rounded depends on their number. None
    leaves it to the environment, where an accelerator computes."""


class OptimParams(Section):
    """A training loop."""

    steps: Count
    batch_size: Batch = 128
    """Images per step, over all processes."""
    micro_batch_tokens: Annotated[int, Field(ge=1, le=10**9)] = 32768
    """Tokens before compression, padding counted, that a process computes at a time: less takes less memory and gives
    the same step."""
    activation_checkpointing: bool = False
    """Compute each LLM layer again in the backward pass instead of keeping what it needs."""
    workers: Annotated[int, Field(ge=0, le=256)] = 4
    """Processes beside each training process that read and cut pictures ahead of it (tiny: 0); results do not depend
    on them."""
    torch_compile: bool = False
    """Compile each layer of ViT and LLM; for accelerators that ``torch.compile`` knows."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """InternVL2 was trained with AdamW. Muon orthogonalises the updates of matrices; the same rates fit both."""
    lr: Rate
    """Peak learning rate."""
    warmup: Share = 0.03
    """Share of the steps before the peak of the cosine schedule."""
    weight_decay: Share = 0.01


class DistillBudget(OptimParams):
    """Re-alignment: one epoch of 2 M images.

    The paper gives no rate; InternVL2.5 uses this one where only the projector learns.
    """

    steps: Count = 15625
    lr: Rate = 2e-4
    lr_by_compressor: dict[str, Rate] = {}
    """Peak rates of the compressors that learn best at another than ``lr``."""


class SftBudget(OptimParams):
    """Post-training, at the rate of InternVL2's fine-tuning scripts."""

    steps: Count = 35156
    """4.5 M pictures, each with up to three questions. The paper has one epoch of 4.5 M samples: where a sample is one
    question, as in mix ``public`` (1.5 M pictures), this is three epochs, and 11719 steps are one."""
    lr: Rate = 4e-5
    checkpoints: Annotated[int, Field(ge=1, le=16)] = 4
    """Pool for merging, evenly spaced. Up to 8 are valued exactly, by 2**checkpoints coalitions; more by
    ``merge.permutations``."""
    reweigh: Count = 500
    """Steps between two updates of the sampling weights."""

    @model_validator(mode="after")
    def _each_checkpoint_has_a_step(self) -> "SftBudget":
        if self.steps < self.checkpoints:
            raise ValueError(f"steps is {self.steps}, too few for {self.checkpoints} checkpoints")
        return self


class LaunchParams(Section):
    """How the stages that run a model are started."""

    processes: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processes of one machine that share the work of distill, rscot, sft, merge and predict, each on an accelerator of
    its own. Results are those of one process, but for rounding."""


class TeacherBudget(Section):
    """Length of each phase of the tiny teacher's training; the defaults are those of scale ``tiny``."""

    vision_steps: Steps = 4500
    """Phase 1: ViT and projector learn to read and to name what they read."""
    text_steps: Steps = 2500
    """Phase 2: the LLM learns look-ups and reasoning on target embeddings."""
    joint_steps: Steps = 2600
    """Phase 3: all parts together."""
    pages: Batch = 12
    """Pictures in a batch of phase 1."""
    chats: Batch = 8
    """Pictures in a batch of phases 2 and 3, each with about ten questions."""
    peak: Rate = 2e-3
    """Highest learning rate of phases 1 and 2."""
    joint_peak: Rate = 1e-3
    vocabulary: Annotated[int, Field(ge=300, le=100_000)] = 2048
    sample_pictures: Annotated[int, Field(ge=1, le=1_000_000)] = 1500
    """Renders per family whose texts train the tokenizer."""


class RscotBudget(Section):
    """Budget of rejection sampling."""

    questions: Count = 200_000
    batch_size: Batch = 128
    """Replies that are decoded together: those to ``batch_size`` / ``rscot.samples`` questions, 16 with 8 samples. At
    InternVL2-2B their cache takes some 25 GB."""


class MergeBudget(Section):
    """Budget of the coalition scores."""

    questions: Count = 1000
    """Validation questions per coalition."""


class EvaluateBudget(Section):
    """Budget of evaluation."""

    batch_size: Batch = 8
    """Replies that are decoded together."""
    speed_pairs: Count = 7
    """Interleaved teacher/student measurements behind a speed ratio."""
    speed_batch: Batch = 1
    """Images in the batch that speed is measured on."""


class Scale(Section):
    """What belongs to a scale: the model and the budgets of every stage."""

    title: str
    model: ModelParams
    prompts: Prompts = Prompts()
    train_teacher: TeacherBudget = TeacherBudget()
    """Budget of ``teacher.source=train``."""
    distill: DistillBudget = DistillBudget()
    rscot: RscotBudget = RscotBudget()
    sft: SftBudget = SftBudget()
    merge: MergeBudget = MergeBudget()
    evaluate: EvaluateBudget = EvaluateBudget()
    launch: LaunchParams = LaunchParams()

    @model_validator(mode="after")
    def _processes_share_a_batch(self) -> "Scale":
        for stage, optim in (("distill", self.distill), ("sft", self.sft)):
            if optim.batch_size % self.launch.processes:
                raise ValueError(
                    f"{stage}.batch_size is {optim.batch_size}, which does not divide among "
                    f"{self.launch.processes} processes (launch.processes)"
                )
        return self

    @model_validator(mode="before")
    @classmethod
    def _prompts_of_the_tiny_model(cls, values: Any) -> Any:
        match values:
            case {"model": {"architecture": "tiny"}}:
                given = values.get("prompts", {})
                if isinstance(given, dict):
                    return values | {"prompts": TINY_PROMPTS | given}
        return values
