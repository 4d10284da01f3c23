rule check:
    """Validate params.yaml and every scale, build every variant on the meta device."""
    input:
        RULES["check"].input,
    output:
        outputs("check"),
    log:
        "logs/snakemake/check.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=5,
    params:
        *RULES["check"].params,
    shell:
        RULES["check"].shell


rule curate:
    """Read, validate, de-duplicate, decontaminate, mix and shard."""
    input:
        RULES["curate"].input,
    output:
        outputs("curate"),
    log:
        f"{LOGS}/curate.log",
    benchmark:
        f"{TIMES}/curate.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        *RULES["curate"].params,
    shell:
        RULES["curate"].shell


scattergather:
    intake=8,


rule intake:
    """Open the corpus' pictures ahead of curate, in as many jobs as `--set-scatter intake=N` says."""
    input:
        gather.intake(f"data/{SCALE}/intake/{{scatteritem}}.json"),


rule intake_part:
    """Open one part of the pictures; curate takes what is there and opens the rest itself."""
    input:
        RULES["curate"].input,
    output:
        f"data/{SCALE}/intake/{{scatteritem}}.json",
    log:
        screen=f"{LOGS}/intake/{{scatteritem}}.log",
        own=f"logs/{SCALE}/intake/{{scatteritem}}.log",
    benchmark:
        f"{TIMES}/intake/{{scatteritem}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,
    params:
        *RULES["curate"].params,
        command=intake_command(),
    shell:
        "{params.command} --part {wildcards.scatteritem} --account {output} --log {log.own}"
        " > {log.screen} 2>&1"
