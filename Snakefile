# HOW it is computed: parallelism, resources, logs, the sweep over variants, the Snakemake report.
# WHAT is computed (commands, inputs, outputs, params) is in dvc.yaml; values are in params.yaml.
from snakemake.utils import min_version

min_version("9.27")


report: "workflow/report/workflow.rst"


OVERLAY = None  # params.yaml as it is


include: "workflow/rules/common.smk"
include: "workflow/rules/stages.smk"
include: "workflow/rules/targets.smk"


localrules:
    all,
    variants,
    check,
    report,
    ablation,


rule all:
    """The experiment that params.yaml describes: the same files as `dvc repro`."""
    default_target: True
    input:
        experiment(),
