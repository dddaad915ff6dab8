# A study's tables -> the verdicts of its claims.


rule claims:
    input:
        unless_current("claims"),
        made_before("claims", rules.aggregate.output),
        claims=ancient(CLAIMS),
    output:
        verdicts="results/studies/{study}/claims.json",
        table="results/studies/{study}/verdicts.parquet",
        note="results/studies/{study}/made-of/claims",
    log:
        "logs/claims/{study}.log",
    conda:
        "../envs/gt.yaml"
    params:
        folder=folder_of_output,
    shell:
        "gt claims judge --study {params.folder:q} --note {output.note:q} > {log:q} 2>&1"
