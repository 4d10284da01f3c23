# One rule per stage of dvc.yaml.
for stage in STAGES:

    rule:
        name:
            stage
        input:
            RULES[stage].input,
        output:
            outputs(stage),
        log:
            beside(stage, "logs/snakemake", ".log"),
        benchmark:
            beside(stage, "logs/benchmarks", ".tsv")
        wildcard_constraints:
            recipe=recipes(stage),
        priority: PRIORITIES.get(STAGES[stage].name, 0)
        retries: limits.retries(STAGES[stage].name, PARAMS)
        conda:
            ENVIRONMENT
        container:
            CONTAINER
        # A measurement of speed is alone on the machine, or it is noise.
        threads: workflow.cores if stage.endswith("speed") else THREADS.get(stage, 1)
        # Accelerators, time and memory follow from the scale. A job that meets its limit goes on where it was.
        resources:
            **ACCELERATORS.get(stage, {}),
            **LIMITS.get(stage, {}),
        params:
            *RULES[stage].params,
            command=RULES[stage].command,
        # In place of all inputs, code among them. `--quiet rules` would hide what runs, and what a dry run would do.
        message:
            "{rule}, log in {log}"
        # The same text for every rule: a shell directive is evaluated when it runs, after the loop.
        shell:
            "{params.command} > {log} 2>&1 || {{ tail -n 1 {log} >&2; exit 1; }}"
