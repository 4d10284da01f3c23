# Reads dvc.yaml and params.yaml, and exchanges finished work with DVC. No rule is defined here.
# OVERLAY is set by the file that includes this one: values in place of those of params.yaml, if any.
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(str(workflow.current_basedir)).parents[1]))

from fcotvl import dag, launcher
from fcotvl.core import config as typed
from fcotvl.core.errors import FcotvlError
from fcotvl.dag import limits
from fcotvl.dag.pools import members
from fcotvl.stages.check import validate

# Stages read params.yaml themselves: a value given here would be shown but not obeyed.
if config:
    raise WorkflowError(
        "change params.yaml (or use `dvc exp run -S key=value`) instead of --config: the stages read the file"
    )

try:
    PARAMS = typed.load(overlay=OVERLAY and Path(OVERLAY))
    validate(PARAMS)
    # The chain at each scale, by what its rules' names begin with; alone and without a prefix in the main workflow.
    PIPELINES = {
        f"{scale}_".replace("-", "_"): dag.Pipeline(overlay=OVERLAY, scale=scale)
        for scale in PARAMS.scales
        if OVERLAY
    } or {"": dag.Pipeline()}
    PIPELINE = next(iter(PIPELINES.values()))
    if workflow.is_main_process:
        if OVERLAY:  # of an experiment that DVC does not know
            dag.refuse_beside_dvc()
        else:
            dag.sync(PIPELINE)
except FcotvlError as error:
    raise WorkflowError(str(error))

config.update(PIPELINE.values)  # for the captions of `snakemake --report`
ENVIRONMENT = "../envs/fcotvl.yaml"  # with `--sdm conda`; otherwise the one that Snakemake runs in
CONTAINER = "fcotvl.sif"  # with `--sdm apptainer`; made from the Dockerfile, see docs/running.md
POOLS = [name for name, grid in PARAMS.grids.items() if grid.pool]
CURATED = f"data/{PIPELINE.values['mix']}"
STAGES, RULES = {}, {}
for prefix, pipeline in PIPELINES.items():
    made = {path for found in RULES.values() for path in found.output}
    for name, stage in pipeline.stages.items():
        found = pipeline.rule(name)
        if OVERLAY and name in ("check", "report"):
            continue  # of the experiment in params.yaml
        if made.isdisjoint(found.output):  # scales share the curated data
            STAGES[prefix + name], RULES[prefix + name] = stage, found
SCALE = PARAMS.scale_config


def processes(stage):
    """How many processes with an accelerator each a stage starts; 0 if it runs no model."""
    return launcher.wanted(stage.cmd.split()[3], SCALE.launch.processes)


def threads(stage):
    """For each process of a stage those of the scale, or one, and one for each worker that feeds it.

    Processes set the scale's themselves, so that results do not depend on the engine.
    """
    feeding = getattr(getattr(SCALE.launch, stage.name, None), "workers", 0)
    return max(1, processes(stage)) * ((SCALE.model.threads or 1) + feeding)


ACCELERATORS = {
    name: {"gpu": processes(stage)}
    for name, stage in STAGES.items()
    if processes(stage)
}
LIMITS = {
    name: limits.resources(stage.name, PARAMS)
    for name, stage in STAGES.items()
    if stage.name == "curate" or name in ACCELERATORS
}
THREADS = {
    name: threads(stage)
    for name, stage in STAGES.items()
    if any(key == "model" for _, key in stage.params)
}
# What begins first among jobs that are ready: a long one that others wait for, or it is left alone at the end.
PRIORITIES = {
    "rscot": 2,
    "merge": 2,
    "predict_merged": 2,
    "distill": 1,
    "sft": 1,
    "predict_baselines": 1,
}
assert PRIORITIES.keys() <= {stage.name for stage in STAGES.values()}
# Jobs that run here side by side each take free accelerators. A scheduler gives each job its own.
os.environ.pop(launcher.CLAIM, None)
if not workflow.remote_exec:
    os.environ[launcher.CLAIM] = "1"


def outputs(stage):
    """The stage's outputs; one without a suffix is a folder. Those of the report go into Snakemake's own."""
    paths = [
        path if Path(path).suffix else directory(path) for path in RULES[stage].output
    ]
    return shown(paths, "Experiment") if stage == "report" else paths


def shown(paths, category):
    """Page, figures and tables among the outputs as entries of `snakemake --report`, captioned by workflow/report."""
    patterns = {"index.html": [], "figures": ["{name}.svg"], "tables": ["{name}.md"]}
    return [
        path if Path(path).name not in patterns else entry(path, category, patterns)
        for path in paths
    ]


def entry(path, category, patterns):
    """One output, or each file of a folder, in its category and with its labels."""
    stem = Path(path).stem
    settings = {
        "caption": f"../report/{stem}.rst",
        "category": category,
        "subcategory": "Page" if stem == "index" else stem.capitalize(),
    }
    return report(path, labels=labels, patterns=patterns[Path(path).name], **settings)


def labels(wildcards):
    """What an entry is about, and under which prompt: files end in `-direct` or `-cot` where it matters."""
    name = wildcards.get("name", "the whole page")
    prompts = {"direct": "direct answers", "cot": "chain of thought"}
    stem, _, prompt = name.rpartition("-")
    if prompt not in prompts:
        return {"about": name, "prompt": "any"}
    return {"about": stem, "prompt": prompts[prompt]}


def recipes(stage):
    """What the wildcard `recipe` stands for: a pool of several recipes' checkpoints is merged like one of them."""
    merged = STAGES[stage].name in ("merge", "predict_merged", "score_merged")
    names = [*PIPELINE.values["recipes"], *(POOLS if merged else ())]
    return "|".join(map(re.escape, names))


def beside(stage, folder, suffix):
    """A file below `folder` for each job of `stage`, at the place that its last output has below data/."""
    output = Path(RULES[stage].output[-1])
    home = output.parent
    if re.findall(r"{\w+}", output.name):  # jobs differ by the name of the file alone
        home = output.with_suffix("")
    place = home.relative_to("data") if home.parts[0] == "data" else Path()
    return str(Path(folder, place, STAGES[stage].name + suffix))


def experiment():
    """Every file of the current experiment."""
    return [path for job in PIPELINE.jobs().values() for path in job.outs]


def grid_files(*stages, points=None, pipeline=PIPELINE):
    """The outputs of `stages` for each point (those of the ablation grid), its own recipe alone fine-tuned."""
    points = [
        point | {"ablation_recipes": [point["recipe"]]}
        for point in points or pipeline.grid()
    ]
    jobs = [job for point in points for job in pipeline.jobs(**point).values()]
    return list(
        dict.fromkeys(path for job in jobs if job.stage in stages for path in job.outs)
    )


def compared(name, grid):
    """The replies and scores that a grid compares, the losses of its distillations, and the utilities of coalitions."""
    stages = ["predict_distilled", "score_distilled", "distill"]
    stages += ["predict_sft", "score_sft"] if grid.recipe else []
    stages += ["score_merged", "merge"] if grid.merged else []
    files = dict.fromkeys(served(grid) + attended(grid))
    if grid.pool:
        merged = [
            pooled(name, stage, output)
            for stage, output in (("score_merged", 0), ("merge", 1))
        ]
        files |= {
            file.format(**point): None
            for point in grid.points(PARAMS.scale)
            for file in merged
        }
    for point in grid.points(PARAMS.scale):
        pipeline = PIPELINES[f"{point['scale']}_".replace("-", "_")]
        files |= dict.fromkeys(
            grid_files(
                *stages,
                points=[{"recipe": PARAMS.recipe} | point],
                pipeline=pipeline,
            )
        )
    return list(files)


def pooled(recipe, stage, output=0, place="data", suffix=""):
    """An output of `stage` for a recipe, or for a pool in its place."""
    path = RULES[next(iter(PIPELINES)) + stage].output[output]
    return path.replace("{recipe}", recipe).replace("data", place, 1) + suffix


def gather(name, grid):
    """The command that copies a pool's checkpoints, each under the name of its recipe; with its own if not alone."""
    home = pooled(name, "sft")
    copies = [
        f"cp {pooled(recipe, 'sft')}/{file}.safetensors {home}/{member}.safetensors"
        for member, (recipe, file) in members(grid, PARAMS).items()
    ]
    return lambda wildcards: " && ".join(copies).format(**wildcards)


def code_of(stage):
    """The code that a stage depends on, as dvc.yaml declares it."""
    return [path for path in PIPELINE.rule(stage).input if path.startswith("fcotvl/")]


def served_at(name, folder="data", suffix=".parquet"):
    """A file of a student that is asked at another ratio than its own."""
    place = "{compressor}-r{ratio}-s{seed}/at-{served}"
    return f"{folder}/{PARAMS.scale}/{place}/{name}{suffix}"


def served(grid):
    """The replies and scores of a grid's students at further ratios."""
    points = [
        point | {"served": ratio}
        for point in grid.points(PARAMS.scale)
        for ratio in grid.serve
    ]
    return [
        served_at(name).format(**point)
        for point in points
        for name in ("predictions", "scores")
    ]


def served_command(step):
    """The command of `predict` or `score` for another ratio: of a flag that is there twice the last one counts."""

    def command(wildcards):
        if step == "score":
            files = [
                served_at(n).format(**wildcards) for n in ("predictions", "scores")
            ]
            return f"python -m fcotvl score --predictions {files[0]} --scores {files[1]} --params {OVERLAY}"
        asked = RULES[next(iter(PIPELINES)) + "predict_distilled"]
        output = served_at("predictions").format(**wildcards)
        return f"{asked.command(wildcards)} --ratio {wildcards.served} --predictions {output}"

    return command


def attention_at(stage, folder="data", suffix=".parquet"):
    """Where the model looks that `stage` asks, beside its replies; and the log of that."""
    replies = Path(RULES[next(iter(PIPELINES)) + stage].output[0])
    return str(Path(folder, replies.parent.relative_to("data"), f"attention{suffix}"))


def attended(grid):
    """Where the teacher and a grid's students look, if that is asked for."""
    stages = ["predict_baselines", "predict_distilled"]
    stages += ["predict_sft"] if grid.recipe else []
    points = grid.points(PARAMS.scale) if grid.attention else []
    return [attention_at(stage).format(**point) for point in points for stage in stages]


def finish():
    """Tell DVC what was built. A failure is reported, and made up for at the next start."""
    dag.end()
    if OVERLAY:
        return  # of an experiment that DVC does not know
    try:
        dag.commit(dag.Pipeline())
    except FcotvlError as error:
        print(error, file=sys.stderr)


def lift_default_rate():
    """Start local jobs without a limit a second, unless the user gives another one than Snakemake's 100.

    With it, the scheduler looks at all ready jobs every second, and once more for each job that has ended. After 45
    jobs of the study that took a fifth of a core: https://github.com/snakemake/snakemake/pull/3744.
    """
    limiter = workflow.scheduler.job_rate_limiter
    default = limiter and (limiter.max_jobs, limiter.timespan) == (100, 1)
    if default and workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


onstart:
    dag.begin()
    lift_default_rate()


onsuccess:
    finish()


onerror:
    finish()


wildcard_constraints:
    compressor=r"[A-Za-z0-9][A-Za-z0-9_-]*",
    ratio=r"0(\.\d+)?",
    seed=r"\d+",
    recipe="|".join(map(re.escape, PIPELINE.values["recipes"])),
