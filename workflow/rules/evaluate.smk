rule predict_baselines:
    """Answers of the teacher and of the training-free systems."""
    input:
        RULES["predict_baselines"].input,
    output:
        outputs("predict_baselines"),
    log:
        f"{LOGS}/predict.log",
    benchmark:
        f"{TIMES}/predict.tsv"
    conda:
        ENVIRONMENT
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        *RULES["predict_baselines"].params,
    shell:
        RULES["predict_baselines"].shell


rule predict_distilled:
    """Answers of the student after distillation."""
    input:
        RULES["predict_distilled"].input,
    output:
        outputs("predict_distilled"),
    log:
        f"{LOGS}/{VARIANT}/predict.log",
    benchmark:
        f"{TIMES}/{VARIANT}/predict.tsv"
    conda:
        ENVIRONMENT
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        *RULES["predict_distilled"].params,
    shell:
        RULES["predict_distilled"].shell


rule predict_sft:
    """Answers of the last checkpoint of a recipe."""
    input:
        RULES["predict_sft"].input,
    output:
        outputs("predict_sft"),
    log:
        f"{LOGS}/{VARIANT}/{{recipe}}/predict.log",
    benchmark:
        f"{TIMES}/{VARIANT}/{{recipe}}/predict.tsv"
    conda:
        ENVIRONMENT
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        *RULES["predict_sft"].params,
    shell:
        RULES["predict_sft"].shell


rule predict_merged:
    """Answers of the merged student, of the soups and of the best single checkpoint."""
    input:
        RULES["predict_merged"].input,
    output:
        outputs("predict_merged"),
    log:
        f"{LOGS}/{VARIANT}/{{recipe}}/predict-merged.log",
    benchmark:
        f"{TIMES}/{VARIANT}/{{recipe}}/predict-merged.tsv"
    conda:
        ENVIRONMENT
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        *RULES["predict_merged"].params,
    shell:
        RULES["predict_merged"].shell


rule score_baselines:
    """Scores of the teacher and of the training-free systems, per question."""
    input:
        RULES["score_baselines"].input,
    output:
        outputs("score_baselines"),
    log:
        f"{LOGS}/score.log",
    benchmark:
        f"{TIMES}/score.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=10,
    params:
        *RULES["score_baselines"].params,
    shell:
        RULES["score_baselines"].shell


rule score_distilled:
    """Scores of the student after distillation, per question."""
    input:
        RULES["score_distilled"].input,
    output:
        outputs("score_distilled"),
    log:
        f"{LOGS}/{VARIANT}/score.log",
    benchmark:
        f"{TIMES}/{VARIANT}/score.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=10,
    params:
        *RULES["score_distilled"].params,
    shell:
        RULES["score_distilled"].shell


rule score_sft:
    """Scores of the last checkpoint of a recipe, per question."""
    input:
        RULES["score_sft"].input,
    output:
        outputs("score_sft"),
    log:
        f"{LOGS}/{VARIANT}/{{recipe}}/score.log",
    benchmark:
        f"{TIMES}/{VARIANT}/{{recipe}}/score.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=10,
    params:
        *RULES["score_sft"].params,
    shell:
        RULES["score_sft"].shell


rule score_merged:
    """Scores of the merged student, of the soups and of the best single checkpoint."""
    input:
        RULES["score_merged"].input,
    output:
        outputs("score_merged"),
    log:
        f"{LOGS}/{VARIANT}/{{recipe}}/score-merged.log",
    benchmark:
        f"{TIMES}/{VARIANT}/{{recipe}}/score-merged.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=10,
    params:
        *RULES["score_merged"].params,
    shell:
        RULES["score_merged"].shell


rule speed:
    """Prefill and decoding of student and FastV against the teacher: alone on the machine, or it is noise."""
    input:
        RULES["speed"].input,
    output:
        outputs("speed"),
    log:
        f"{LOGS}/{VARIANT}/speed.log",
    benchmark:
        f"{TIMES}/{VARIANT}/speed.tsv"
    conda:
        ENVIRONMENT
    threads: workflow.cores
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=30,
    params:
        *RULES["speed"].params,
    shell:
        RULES["speed"].shell
