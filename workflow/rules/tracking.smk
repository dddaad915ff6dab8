# Run records -> MLflow: one serial import that can be repeated.


rule track:
    input:
        unless_current("track"),
        plan=ancient("results/studies/{study}/plan.json"),
        records=made_before("track", measured_of_runs),
    output:
        counts="results/studies/{study}/tracking.json",
        note="results/studies/{study}/made-of/track",
    log:
        "logs/track/{study}.log",
    localrule: True
    conda:
        "../envs/gt.yaml"
    params:
        uri=config["mlflow_uri"],
    shell:
        "gt track --plan {input.plan:q} --runs results/runs --uri {params.uri:q} --out {output.counts:q}"
        " --note {output.note:q} > {log:q} 2>&1"
