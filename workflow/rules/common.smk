# Reads dvc.yaml and params.yaml, and exchanges finished work with DVC. No rule is defined here.
import os
import re
import shlex
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from fcotvl import dag
from fcotvl.core import config as typed
from fcotvl.core.errors import FcotvlError
from fcotvl.stages.check import validate

# Stages read params.yaml themselves: a value given here would be shown but not obeyed.
if config:
    raise WorkflowError(
        "change params.yaml (or use `dvc exp run -S key=value`) instead of --config: the stages read the file"
    )

try:
    validate(typed.load())
    CHAIN = dag.Chain()
    if workflow.is_main_process:
        dag.sync(CHAIN)
except FcotvlError as error:
    raise WorkflowError(str(error))

config.update(CHAIN.values)  # for the captions of `snakemake --report`
ENVIRONMENT = "../envs/fcotvl.yaml"  # with `--sdm conda`; otherwise the one that Snakemake runs in
SCALE = CHAIN.values["scale"]
VARIANT = "{compressor}-r{ratio}-s{seed}"
LOGS = f"logs/snakemake/{SCALE}"
TIMES = f"logs/benchmarks/{SCALE}"
RULES = {name: CHAIN.rule(name) for name in CHAIN.stages}


def outputs(stage):
    """The stage's outputs; one without a suffix is a folder."""
    return [
        path if Path(path).suffix else directory(path) for path in RULES[stage].output
    ]


def shown(paths, caption):
    """The outputs as entries of `snakemake --report`, with a caption of workflow/report."""
    caption = f"../report/{caption}.rst"
    return [report(path, caption=caption, patterns=["{name}.md"]) for path in paths]


def intake_command():
    """What opens a part of the pictures that curate mixes; DVC does not know it."""
    raw = shlex.quote(CHAIN.values["data"]["raw"])
    return f"python -m fcotvl intake --scale {SCALE} --raw {raw}"


def experiment():
    """Every file of the current experiment."""
    return [path for job in CHAIN.jobs().values() for path in job.outs]


def variant_folders():
    """The folder of each variant of the grid: `data/<scale>/<compressor>-r<ratio>-s<seed>/<recipe>`."""
    return [
        f"data/{SCALE}/{VARIANT}/{{recipe}}".format(**point) for point in CHAIN.grid()
    ]


def variant_scores():
    """The scores of each variant of the grid, after distillation and after merging."""
    wanted = [
        path
        for stage in ("score_distilled", "score_merged")
        for path in RULES[stage].output
    ]
    return list(
        dict.fromkeys(path.format(**point) for point in CHAIN.grid() for path in wanted)
    )


def variant_files():
    """Every file of each variant of the grid, its own recipe alone fine-tuned; the report left out."""
    points = [point | {"modules": [point["recipe"]]} for point in CHAIN.grid()]
    jobs = [job for point in points for job in CHAIN.jobs(**point).values()]
    wanted = [path for job in jobs if job.stage != "report" for path in job.outs]
    return list(dict.fromkeys(wanted))


def finish():
    """Tell DVC what was built. A failure is reported, and made up for at the next start."""
    dag.end()
    try:
        dag.commit(dag.Chain())
    except FcotvlError as error:
        print(error, file=sys.stderr)


onstart:
    dag.begin()


onsuccess:
    finish()


onerror:
    finish()


wildcard_constraints:
    compressor=r"[A-Za-z0-9][A-Za-z0-9_-]*",
    ratio=r"0(\.\d+)?",
    seed=r"\d+",
    recipe="|".join(map(re.escape, CHAIN.values["recipes"])),
