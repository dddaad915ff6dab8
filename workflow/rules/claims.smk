# A study's tables -> the verdicts of its claims.


rule claims:
    input:
        rules.aggregate.output,
        claims=CLAIMS,
    output:
        multiext(
            "results/studies/{study}/",
            json="claims.json",
            verdicts="verdicts.parquet",
        ),
    log:
        "logs/claims/{study}.log",
    conda:
        "../envs/gt.yaml"
    params:
        code=fingerprint("analysis"),
        folder=folder_of_output,
    shell:
        "python -m gt claims judge --study {params.folder:q} > {log:q} 2>&1"
