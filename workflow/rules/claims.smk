# A study's tables -> the verdicts of its claims.


rule claims:
    input:
        unless_current("claims"),
        made_before("claims", rules.aggregate.output),
        claims=ancient(claims_of_study),
    output:
        verdicts="results/studies/{study}/claims.json",
        table="results/studies/{study}/verdicts.parquet",
        looks="results/studies/{study}/looks.parquet",
        note="results/studies/{study}/made-of/claims",
    log:
        "logs/claims/{study}.log",
    localrule: True
    conda:
        "../envs/gt.yaml"
    params:
        folder=folder_of_output,
        claims=claim_folder,
    shell:
        "gt claims judge --study {params.folder:q} --claims {params.claims:q} --note {output.note:q} > {log:q} 2>&1"
