rule report:
    """Tables, plots, one HTML page and the metrics of the experiment that params.yaml describes."""
    input:
        inputs("report"),
    output:
        report(
            outputs("report"),
            caption="../report/experiment.rst",
            category="Experiment",
        ),
    log:
        "logs/snakemake/report.log",
    benchmark:
        "logs/benchmarks/report.tsv"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        *RULES["report"].params,
    shell:
        RULES["report"].shell


rule ablation:
    """The grid of params.yaml (`snakemake --cores 2 ablation`); what variants share is computed once."""
    input:
        code=code("report", "fcotvl/stages/ablation.py"),
        shared=f"data/{SCALE}/scores.parquet",
        variants=variant_scores(),
    output:
        report(
            multiext(
                "reports/ablation/ablation",
                ".md",
                ".csv",
                ".tex",
            ),
            caption="../report/ablation.rst",
            category="Ablation",
        ),
        report(
            "reports/ablation/index.html",
            caption="../report/ablation.rst",
            category="Ablation",
        ),
    log:
        "logs/snakemake/ablation.log",
    benchmark:
        "logs/benchmarks/ablation.tsv"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        scale=SCALE,
        variants=variant_folders(),
    shell:
        "python -m fcotvl ablation --scale {params.scale} --shared data/{params.scale}"
        " --variants {params.variants} --output reports/ablation > {log} 2>&1"
        " || {{ tail -n 1 {log} >&2; exit 1; }}"


localrules:
    all,
    check,
    report,
    ablation,
