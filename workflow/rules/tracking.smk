# Run records -> MLflow: one serial import that can be repeated.


rule track:
    input:
        plan="results/studies/{study}/plan.json",
        records=files_of_runs("evaluation.json"),
        probes=files_of_runs("probes.json"),
    output:
        "results/studies/{study}/tracking.json",
    log:
        "logs/track/{study}.log",
    conda:
        "../envs/gt.yaml"
    params:
        code=fingerprint("tracking", "tracking_store"),
        uri=config["mlflow_uri"],
    shell:
        "python -m gt track --plan {input.plan:q} --runs results/runs --uri {params.uri:q} > {output:q} 2> {log:q}"
