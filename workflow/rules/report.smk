rule report:
    """Tables, plots, one HTML page and the metrics of the experiment that params.yaml describes."""
    input:
        RULES["report"].input,
    output:
        shown(outputs("report"), "experiment"),
    log:
        "logs/snakemake/report.log",
    benchmark:
        "logs/benchmarks/report.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        *RULES["report"].params,
    shell:
        RULES["report"].shell


rule ablation:
    """The report with the grid of params.yaml beside the experiment; what variants share is computed once."""
    input:
        RULES["report"].input,
        variants=variant_scores(),
    output:
        shown(
            ["reports/ablation/index.html", directory("reports/ablation/tables")],
            "ablation",
        ),
    log:
        "logs/snakemake/ablation.log",
    benchmark:
        "logs/benchmarks/ablation.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        *RULES["report"].params,
        command=CHAIN.jobs()["report"].cmd,
        variants=variant_folders(),
    shell:
        # of two --output the last one counts
        "{params.command} --variants {params.variants} --output reports/ablation > {log} 2>&1"
        " || {{ tail -n 1 {log} >&2; exit 1; }}"


rule variants:
    """Every file of every point of the grid, as `python -m fcotvl.dag publish` wants them."""
    input:
        variant_files(),


localrules:
    all,
    variants,
    check,
    report,
    ablation,
