"""``workflow/scales/<scale>.yaml``: which model, and which budgets.

Defaults are the paper's setting: InternVL2, and steps for FCoT-VL's 2 M alignment and 4.5 M instruction samples at the
rates of InternVL2's own training scripts. A scale file says what differs.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fcotvl.core.config.architecture import MAX_LENGTH, TINY_PROMPTS, MaxLength, TileParams
from fcotvl.core.prompts import Prompts
from fcotvl.core.section import Count, Rate, Section, Share

Steps = Annotated[int, Field(ge=0, le=10**9)]
Batch = Annotated[int, Field(ge=1, le=100_000)]
BatchTokens = Annotated[int, Field(ge=1, le=10**9)]

TINY = {"prompts": TINY_PROMPTS, "launch": {"distill": {"workers": 0}, "sft": {"workers": 0}}}
"""What differs for the tiny model."""


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


class ComputeParams(Section):
    """How a machine computes a training step: no result depends on it, but for rounding."""

    micro_batch_tokens: BatchTokens = 32768
    """Tokens before compression, padding counted, that a process computes at a time: less takes less memory and gives
    the same step."""
    activation_checkpointing: bool = False
    """Compute each LLM layer again in the backward pass instead of keeping what it needs."""
    workers: Annotated[int, Field(ge=0, le=256)] = 4
    """Processes beside each training process that read and cut pictures ahead of it (tiny: 0)."""
    torch_compile: bool = False
    """Compile each layer of ViT and LLM; for accelerators that ``torch.compile`` knows."""


class TrainingBudget(Section):
    """What a training loop computes."""

    steps: Count
    batch_size: Batch = 128
    """Images per step, over all processes."""
    max_length: MaxLength = MAX_LENGTH
    """Most tokens of a picture and its chats before compression. What is longer is cut at its end, as InternVL2's own
    fine-tuning cuts it."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """InternVL2 was trained with AdamW. Muon orthogonalises the updates of matrices; the same rates fit both."""
    lr: Rate
    """Peak learning rate."""
    warmup: Share = 0.03
    """Share of the steps before the peak of the cosine schedule."""
    weight_decay: Share = 0.01

    def on(self, machine: ComputeParams) -> "OptimParams":
        """This budget as ``machine`` computes it."""
        own = self.model_dump(include=set(TrainingBudget.model_fields))
        return OptimParams(**own, **machine.model_dump())


class OptimParams(TrainingBudget, ComputeParams):
    """A training loop: its budget, and how it is computed."""

    schedule: Literal["cosine", "constant"] = "cosine"
    """Of the learning rate after the warm-up."""


class DistillBudget(TrainingBudget):
    """Re-alignment: one epoch of 2 M images.

    The paper gives no rate; InternVL2.5 uses this one where only the projector learns.
    """

    steps: Count = 15625
    lr: Rate = 2e-4
    lr_by_compressor: dict[str, Rate] = {}
    """Peak rates of the compressors that learn best at another than ``lr``: ``pool``, or ``cnn-r0.25`` at one ratio."""

    def lr_of(self, compressor: str, ratio: float) -> float:
        """The peak rate of ``compressor`` at ``ratio``."""
        return self.lr_by_compressor.get(f"{compressor}-r{ratio}", self.lr_by_compressor.get(compressor, self.lr))


class SftBudget(TrainingBudget):
    """Post-training, at the rate of InternVL2's fine-tuning scripts."""

    steps: Count = 35156
    """4.5 M pictures, each with up to three questions. The paper has one epoch of 4.5 M samples: where a sample is one
    question, as in mix ``public`` (1.5 M pictures), this is three epochs, and 11719 steps are one."""
    steps_by_recipe: dict[str, Count] = {}
    """Steps of the recipes that are trained for another number than ``steps``."""
    lr: Rate = 4e-5
    lr_by_recipe: dict[str, Rate] = {}
    """Peak rates of the recipes that learn best at another than ``lr``."""
    checkpoints: Annotated[int, Field(ge=1, le=16)] = 4
    """Pool for merging, evenly spaced. Up to 8 are valued exactly, by 2**checkpoints coalitions; more by
    ``merge.permutations``."""
    checkpoint_span: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the steps, counted from the last, that the pool is spaced over: at 0.5, none is of the first half."""
    reweigh: Count = 500
    """Steps between two updates of the sampling weights."""

    @property
    def checkpoint_steps(self) -> dict[str, int]:
        """The steps after which checkpoints are saved, by the checkpoints' names: evenly spaced, up to the last."""
        count, span = self.checkpoints, self.checkpoint_span
        steps = (round(self.steps * (count - span * before_last) / count) for before_last in reversed(range(count)))
        return {f"step-{step:05d}": step for step in steps}

    @model_validator(mode="after")
    def _each_checkpoint_has_a_step(self) -> "SftBudget":
        self.check_pool("steps")
        return self

    def check_pool(self, key: str) -> None:
        """Refuse fewer steps than checkpoints.

        Args:
            key: where the number of steps is written.

        Raises:
            ValueError: two checkpoints would be of one step.
        """
        span = self.checkpoint_span
        if self.steps * span < self.checkpoints:
            part = f" in the last {span:.0%} of them" if span < 1 else ""
            raise ValueError(f"{key} is {self.steps}, too few for {self.checkpoints} checkpoints{part}")


class LaunchParams(Section):
    """How the stages that run a model use a machine.

    Results do not depend on it, but for rounding: no stage reruns when it changes, and a stopped run goes on.
    """

    processes: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processes of one machine that share the work of distill, rscot, sft, merge and predict, each on an accelerator of
    its own."""
    jobs_per_accelerator: Annotated[int, Field(ge=1, le=64)] = 1
    """Jobs of Snakemake that may share an accelerator: one of the tiny model leaves it idle for most of the time, and
    takes 1 GB of it. ``speed`` shares none, since it measures time."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """What each process of distill and sft holds: the whole model (``ddp``), or its share of weights, gradients and
    optimizer, and whole only the layer that computes (``fsdp``). One process holds all in either case."""
    deterministic: bool = False
    """Let accelerators sum in a fixed order, which is slower: the same command then gives the same bytes on the same
    machine. A CPU does so without."""
    vision_cache_gb: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    """Space on disk, in GB, for the visual tokens of the frozen ViT: a tile then passes it once for all students, not
    in each stage of each. InternVL2-2B's tile takes 2 MB in bfloat16, the tiny model's 131 kB."""
    teacher_cache_gb: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    """Space on disk, in GB, for what the teacher's head reads in distill. Students of one seed see the same batches; a
    batch then passes the teacher's LLM once for all of them. InternVL2-2B's answer token takes 4 kB in bfloat16, the
    tiny model's 0.6 kB; with ``distill.hidden_weight``, every token of a turn takes that for each layer."""
    distill: ComputeParams = ComputeParams()
    sft: ComputeParams = ComputeParams()
    job_hours: Annotated[float, Field(gt=0, le=10_000)] = 24
    """The longest job that a cluster takes: what takes longer goes on in the next one."""

    @model_validator(mode="after")
    def _cached_models_are_whole(self) -> "LaunchParams":
        for key in ("vision_cache_gb", "teacher_cache_gb"):
            if getattr(self, key) and self.strategy == "fsdp":
                raise ValueError(f"{key} needs strategy ddp: with fsdp, processes gather the frozen layers together")
        return self


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
    samples: Annotated[int, Field(ge=1, le=10_000)] = 8
    """Replies that are drawn to each question. InternVL's sampler (MMPR) draws 32."""
    batch_size: Batch = 128
    """Most replies that are decoded together: those to ``batch_size`` / ``samples`` questions, 16 with 8 samples."""
    batch_tokens: BatchTokens = 262_144
    """Most tokens that these replies and their prompts may have, visual tokens and padding counted. Their keys and
    values take 12 KiB a token at InternVL2-1B, 96 at 2B and 128 at 8B: 3.2, 26 and 34 GB."""


class MergeBudget(Section):
    """Budget of the coalition scores."""

    questions: Count = 1000
    """Validation questions per coalition."""


class EvaluateBudget(Section):
    """Budget of evaluation."""

    batch_size: Batch = 16
    """Most replies that are decoded together. Processes share windows of eight times as many questions."""
    batch_tokens: BatchTokens = 65_536
    """Most tokens that these replies and their prompts may have, as in rejection sampling: 0.8, 6.4 and 8.6 GB. All
    prompts are read together, which takes memory too."""
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
    def _defaults_of_the_tiny_model(cls, values: Any) -> Any:
        match values:
            case {"model": {"architecture": "tiny"}}:
                return {**values, **_over(TINY, values)}
        return values


def _over(defaults: dict[str, Any], values: Any) -> Any:
    """``values`` over ``defaults``, section by section."""
    if not isinstance(values, dict):
        return values
    return defaults | {k: _over(defaults[k], v) if isinstance(defaults.get(k), dict) else v for k, v in values.items()}
