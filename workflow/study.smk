# snakemake --snakefile workflow/study.smk --cores 2
# Every claim of the paper, by the grids of workflow/study.yaml: the stages of dvc.yaml at the study's scales, apart from
# the experiment in params.yaml.
from snakemake.utils import min_version

min_version("9.27")

OVERLAY = "workflow/study.yaml"


include: "rules/common.smk"
include: "rules/stages.smk"


STUDY = next(iter(PIPELINES))
COST = [f"data/{PARAMS.scale}/cost-{shape}.json" for shape in PARAMS.shapes]


rule study:
    """The page of claims with its tables and figures."""
    default_target: True
    input:
        code_of("report"),
        "fcotvl/dag/pools.py",
        "fcotvl/evaluate/cost.py",
        "fcotvl/evaluate/effects.py",
        "fcotvl/merge/shapley.py",
        "fcotvl/stages/study.py",
        f"{CURATED}/benchmarks",
        f"data/{PARAMS.scale}/teacher",
        grid_files("predict_baselines", "score_baselines"),
        *COST,
        *(compared(name, grid) for name, grid in PARAMS.grids.items()),
    output:
        shown(
            [
                "reports/study/index.html",
                directory("reports/study/figures"),
                directory("reports/study/tables"),
            ],
            "Study",
        ),
    log:
        "logs/snakemake/study.log",
    benchmark:
        "logs/benchmarks/study.tsv"
    localrule: True
    conda:
        "envs/fcotvl.yaml"
    container:
        CONTAINER
    params:
        grids=[grid.model_dump() for grid in PARAMS.grids.values()],
    message:
        "{rule}, log in {log}"
    shell:
        f"python -m fcotvl study --params {OVERLAY} --data data --output reports/study"
        f"{' --cost ' * bool(COST)}{' '.join(COST)} > {{log}} 2>&1"
        " || {{ tail -n 1 {log} >&2; exit 1; }}"


rule cost:
    """What compression saves at a true shape; in CPU time, so that a busy machine matters little."""
    input:
        code_of("speed"),
        "benchmarks/cost.py",
        "fcotvl/internvl/architectures.py",
    output:
        f"data/{PARAMS.scale}/cost-{{architecture}}.json",
    log:
        "logs/snakemake/cost-{architecture}.log",
    benchmark:
        "logs/benchmarks/cost-{architecture}.tsv"
    conda:
        "envs/fcotvl.yaml"
    container:
        CONTAINER
    params:
        how=lambda wildcards: PARAMS.shapes.get(wildcards.architecture, "measured"),
    message:
        "{rule}, log in {log}"
    shell:
        "OMP_NUM_THREADS=1 python benchmarks/cost.py --architecture {wildcards.architecture} --tiles 4 --pairs 5"
        " $(test {params.how} = measured || echo --extrapolate) --output {output}"
        " > {log} 2>&1 || {{ tail -n 1 {log} >&2; exit 1; }}"


for step, written in (
    ("predict", "predictions"),
    ("score", "scores"),
):

    # A student whose weights serve several ratios is asked at another one.
    rule:
        name:
            f"served_{step}"
        input:
            (
                RULES[f"{STUDY}predict_distilled"].input
                if step == "predict"
                else [served_at("predictions"), *code_of("score_distilled")]
            ),
        output:
            served_at(written),
        log:
            served_at(step, "logs/snakemake", ".log"),
        benchmark:
            served_at(step, "logs/benchmarks", ".tsv")
        conda:
            "envs/fcotvl.yaml"
        container:
            CONTAINER
        threads: THREADS.get(f"{STUDY}{step}_distilled", 1)
        resources:
            **ACCELERATORS.get(f"{STUDY}{step}_distilled", {}),
        params:
            *RULES[f"{STUDY}predict_distilled"].params,
            command=served_command(step),
        message:
            "{rule}, log in {log}"
        shell:
            "{params.command} > {log} 2>&1 || {{ tail -n 1 {log} >&2; exit 1; }}"


for system, stage, student in (
    ("teacher", "predict_baselines", None),
    ("distilled", "predict_distilled", "student.safetensors"),
    ("sft", "predict_sft", "checkpoints"),
):

    # Where it looks while it writes the teacher's replies.
    rule:
        name:
            f"attention_{system}"
        input:
            code_of("predict_distilled"),
            sorted(map(str, Path("fcotvl/toy/render").rglob("*.py"))),
            "fcotvl/evaluate/answer_place.py",
            "fcotvl/evaluate/attention.py",
            "fcotvl/evaluate/token_map.py",
            "fcotvl/stages/attention.py",
            f"{CURATED}/benchmarks",
            f"data/{PARAMS.scale}/teacher",
            f"data/{PARAMS.scale}/predictions.parquet",
            student=[Path(attention_at(stage)).with_name(student)] if student else [],
        output:
            attention_at(stage),
        log:
            attention_at(stage, "logs/snakemake", ".log"),
        benchmark:
            attention_at(stage, "logs/benchmarks", ".tsv")
        conda:
            "envs/fcotvl.yaml"
        container:
            CONTAINER
        threads: THREADS[f"{STUDY}{stage}"]
        resources:
            gpu=launcher.wanted("attention", 1),
        params:
            *RULES[f"{STUDY}{stage}"].params,
            student="--student" if student else "",
        message:
            "{rule}, log in {log}"
        shell:
            f"python -m fcotvl attention --params {OVERLAY} --benchmarks {CURATED}/benchmarks"
            f" --teacher data/{PARAMS.scale}/teacher --predictions data/{PARAMS.scale}/predictions.parquet"
            " {params.student} {input.student} --output {output} > {log} 2>&1 || {{ tail -n 1 {log} >&2; exit 1; }}"


for name, grid in PARAMS.grids.items():

    rule:
        name:
            name
        input:
            compared(name, grid),
        localrule: True

    if grid.pool:

        # Checkpoints of several recipes in one folder, as if one recipe had kept them: merge and what follows take it.
        rule:
            name:
                f"{name}_checkpoints"
            input:
                [pooled(recipe, "sft") for recipe in grid.pool],
            output:
                directory(pooled(name, "sft")),
            log:
                pooled(name, "sft", place="logs/snakemake", suffix=".log"),
            priority: PRIORITIES["merge"]
            localrule: True
            conda:
                "envs/fcotvl.yaml"
            container:
                CONTAINER
            params:
                command=gather(name, grid),
            message:
                "{rule}, log in {log}"
            shell:
                "(mkdir -p {output} && {params.command}) > {log} 2>&1 || {{ tail -n 1 {log} >&2; exit 1; }}"
