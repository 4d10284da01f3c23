# What people ask for beside the stages: the ablation grid, and pictures that are decoded before `curate`.
rule ablation:
    """The report with the grid of params.yaml beside the experiment; what variants share is computed once."""
    input:
        RULES["report"].input,
        scores=grid_files("score_distilled", "score_merged"),
    output:
        shown(
            [
                "reports/ablation/index.html",
                directory("reports/ablation/figures"),
                directory("reports/ablation/tables"),
            ],
            "Ablation grid",
        ),
    log:
        "logs/snakemake/ablation.log",
    benchmark:
        "logs/benchmarks/ablation.tsv"
    conda:
        ENVIRONMENT
    container:
        CONTAINER
    params:
        *RULES["report"].params,
        command=PIPELINE.jobs()["report"].cmd,
        variants=PIPELINE.grid_folders(),
    message:
        "{rule}, log in {log}"
    shell:
        # of two --output the last one counts
        "{params.command} --variants {params.variants} --output reports/ablation > {log} 2>&1"
        " || {{ tail -n 1 {log} >&2; exit 1; }}"


rule variants:
    """Every file of every point of the grid, as `fcotvl publish` wants them."""
    input:
        grid_files(*(stage for stage in PIPELINE.stages if stage != "report")),


scattergather:
    prefetch=8,


rule prefetch:
    """Decode the corpus' pictures before curate, in as many jobs as `--set-scatter prefetch=N` says."""
    input:
        gather.prefetch(f"{CURATED}/prefetch/{{scatteritem}}.json"),


rule prefetch_part:
    """Decode one part of the pictures; curate takes what is there and decodes the rest itself."""
    input:
        RULES["curate"].input,
    output:
        f"{CURATED}/prefetch/{{scatteritem}}.json",
    log:
        "logs/snakemake/prefetch/{scatteritem}.log",
    benchmark:
        "logs/benchmarks/prefetch/{scatteritem}.tsv"
    conda:
        ENVIRONMENT
    container:
        CONTAINER
    params:
        *RULES["curate"].params,
    message:
        "{rule}, log in {log}"
    shell:
        # DVC does not know it
        f"python -m fcotvl prefetch --mix {PIPELINE.values['mix']}"
        " --part {wildcards.scatteritem} --summary {output}"
        " --log logs/prefetch/{wildcards.scatteritem}.log > {log} 2>&1 || {{ tail -n 1 {log} >&2; exit 1; }}"
