# One thread a job: training at scale tiny gains more from running recipes side by side. A job that is tried
# again (`retries` of a profile) resumes from its own scratch and may use more memory.
rule teacher:
    """The bundled teacher, one trained from nothing, or the hub's."""
    input:
        RULES["teacher"].input,
    output:
        outputs("teacher"),
    log:
        f"{LOGS}/teacher.log",
    benchmark:
        f"{TIMES}/teacher.tsv"
    conda:
        ENVIRONMENT
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=240,
    params:
        *RULES["teacher"].params,
    shell:
        RULES["teacher"].shell


rule distill:
    """Re-align a student whose ViT and LLM are frozen, from the teacher's logits."""
    input:
        RULES["distill"].input,
    output:
        outputs("distill"),
    log:
        f"{LOGS}/{VARIANT}/distill.log",
    benchmark:
        f"{TIMES}/{VARIANT}/distill.tsv"
    conda:
        ENVIRONMENT
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        *RULES["distill"].params,
    shell:
        RULES["distill"].shell


rule rscot:
    """Sample chains of thought from the teacher and keep those that end in the right answer."""
    input:
        RULES["rscot"].input,
    output:
        outputs("rscot"),
    log:
        f"{LOGS}/rscot.log",
    benchmark:
        f"{TIMES}/rscot.tsv"
    conda:
        ENVIRONMENT
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        *RULES["rscot"].params,
    shell:
        RULES["rscot"].shell


rule sft:
    """Post-train on direct answers and rationales; keep a pool of checkpoints."""
    input:
        RULES["sft"].input,
    output:
        outputs("sft"),
    log:
        f"{LOGS}/{VARIANT}/{{recipe}}/sft.log",
    benchmark:
        f"{TIMES}/{VARIANT}/{{recipe}}/sft.tsv"
    conda:
        ENVIRONMENT
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=120,
    params:
        *RULES["sft"].params,
    shell:
        RULES["sft"].shell


rule merge:
    """Weigh the checkpoints by their Shapley values and merge them; the soups beside."""
    input:
        RULES["merge"].input,
    output:
        outputs("merge"),
    log:
        f"{LOGS}/{VARIANT}/{{recipe}}/merge.log",
    benchmark:
        f"{TIMES}/{VARIANT}/{{recipe}}/merge.tsv"
    conda:
        ENVIRONMENT
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        *RULES["merge"].params,
    shell:
        RULES["merge"].shell
