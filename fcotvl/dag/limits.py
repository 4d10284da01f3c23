"""What a cluster's job asks for: time and memory that follow from the budgets of scale and mix.

Nothing heavy is imported: this runs whenever Snakemake starts. So the sizes of the models stand here, and operations
are counted as products with weights alone; tests compare both with the cost model.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean

from fcotvl.core.config import Params

SPEED = 400e12
"""FLOP/s of one accelerator in training: 40 % of an H100's peak in bfloat16, see docs/running.md."""
DECODING = 0.05
"""Seconds in which one process decodes a token of each reply of a batch: our assumption for an H100, where starting the
kernels of some 30 layers takes longer than reading their weights. What precedes decoding is small beside it."""
PICTURES = 50
"""Pictures that ``curate`` reads and decodes in a second: our assumption; the hub's connection decides."""
MARGIN = 2
"""Limits are that many times what is expected."""
START = 60
"""Minutes to start: read the corpus' index, the models, the state of a stopped run."""
TEXT = 240
"""Text tokens of a picture with its turns."""
EXACT_PLAYERS = 8
"""Up to so many checkpoints, each coalition is scored."""


@dataclass(frozen=True)
class Size:
    """Parameters of a teacher."""

    vit: float
    layers: float
    """Those of the LLM, without embeddings and head."""
    total: float


SIZES = {
    "tiny": Size(1.3e6, 1.24e6, 2.7e6),
    "internvl2-1b": Size(304e6, 358e6, 938e6),
    "internvl2-2b": Size(304e6, 1510e6, 2206e6),
    "internvl2-8b": Size(304e6, 6980e6, 8075e6),
}


def hours(stage: str, params: Params) -> float:
    """Hours that ``stage`` is expected to take with the scale's processes; 0 for those that take minutes."""
    scale, mix = params.scale_config, params.mix_config
    if stage == "curate":
        return (mix.corpus.align + mix.corpus.instruct) / PICTURES / 3600
    if stage in ("distill", "sft"):
        budgets = {name: params.sft_budget(name) for name in params.recipes} if stage == "sft" else {"": scale.distill}
        flops = max(picture_flops(stage, params, name) * b.steps * b.batch_size for name, b in budgets.items())
        return flops / SPEED / 3600 / scale.launch.processes
    direct = scale.prompts.direct_tokens
    both = direct + scale.prompts.cot_tokens
    batch, questions = scale.evaluate.batch_size, sum(benchmark.count for benchmark in mix.benchmarks.values())
    methods, pool = len(params.baselines.methods), scale.sft.checkpoints
    coalitions = 2**pool if pool <= EXACT_PLAYERS else 2 * pool * params.merge.permutations
    scored = coalitions * (2 if "search" in params.merge.methods else 1)
    merge_tokens = fmean(map(scale.prompts.max_new_tokens, params.merge.prompts))
    replies, tokens = {
        "rscot": (scale.rscot.questions * scale.rscot.samples / scale.rscot.batch_size, scale.prompts.cot_tokens),
        "merge": (scored * scale.merge.questions / batch, merge_tokens),
        "predict_baselines": ((1 + methods * len(params.baselines.ratios)) * questions / batch, both),
        "predict_distilled": (questions / batch, both),
        "predict_sft": (questions / batch, both),
        "predict_merged": (pool * questions / batch, both),  # the soups, and the best single checkpoint
        "harness": (2 * scale.launch.processes * questions / batch, both),  # in one process
    }.get(stage, (0, 0))
    return replies * tokens * DECODING / 3600 / scale.launch.processes


def picture_flops(stage: str, params: Params, recipe: str = "") -> float:
    """Floating-point operations of one picture in a step of ``distill``, or of ``sft`` with ``recipe``."""
    model, ratio = params.scale_config.model, float(params.ratio)
    size, tiles = SIZES[model.architecture], model.max_tiles + 1
    patches, visual = 4 * model.tokens, tiles * model.tokens
    vit = 2 * size.vit * tiles * patches
    teacher = 2 * size.layers * (visual + TEXT)
    student = 2 * size.layers * (visual * (1 - ratio) + TEXT)
    # A backward pass takes as much as the forward pass for the inputs, and again for the weights.
    if stage == "distill":
        return vit + teacher + 2 * student
    return vit + 3 * student + (teacher if params.recipes[recipe].asks_teacher else 0)


def gigabytes(stage: str, params: Params) -> float:
    """Memory of all processes of a stage that runs a model, not of its accelerators."""
    launch = params.scale_config.launch
    size = SIZES[params.scale_config.model.architecture]
    models = 4 if stage == "sft" else 2  # bytes a parameter; twice, while weights are read
    workers = getattr(getattr(launch, stage, None), "workers", 0)
    each = 4 + 2 * models * size.total / 1e9 + 3 * workers  # a worker keeps some 4,000 pictures
    state = 16 * size.total / 1e9 if stage == "sft" else 0  # saved by the first process
    return (1 if stage in ("harness", "speed", "teacher") else launch.processes) * each + state


def resources(stage: str, params: Params) -> Mapping[str, Callable[..., int]]:
    """``runtime`` in minutes and ``mem_mb`` of a job by its attempt, as Snakemake asks for them.

    No job asks for more than ``launch.job_hours``: one that meets its limit is started again and goes on where it was
    (all but ``harness``). A further attempt gets more, should the estimate be wrong.
    """
    minutes = 60 * MARGIN * hours(stage, params) + START
    longest = 60 * params.scale_config.launch.job_hours
    memory = 1000 * gigabytes(stage, params)

    def runtime(_wildcards: object, attempt: int) -> int:
        return math.ceil(min(longest, attempt * minutes))

    def mem_mb(_wildcards: object, attempt: int) -> int:
        return math.ceil(memory * (3 + min(attempt, 5)) / 4)

    return {"runtime": runtime} if stage == "curate" else {"runtime": runtime, "mem_mb": mem_mb}


def retries(stage: str, params: Params) -> int | None:
    """How often a job may be started again where it takes longer than a cluster allows; none where it does not."""
    if stage == "harness":  # would begin anew
        return None
    attempts = math.ceil(MARGIN * hours(stage, params) / params.scale_config.launch.job_hours)
    return attempts + 1 if attempts > 1 else None
