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
