# Run records -> what their networks do inside.


rule probe:
    input:
        manifest="results/runs/{run}/manifest.json",
        weights="results/runs/{run}/model.safetensors",
        curves="results/runs/{run}/curves.parquet",
        tokens=tokens_of_run,
        pack=pack_of_run,
    output:
        "results/runs/{run}/probes.json",
    log:
        "logs/probe/{run}.log",
    benchmark:
        "results/benchmarks/probe/{run}.jsonl"
    conda:
        "../envs/gt.yaml"
    threads: 1
    resources:
        gpu=GPU_PER_RUN,
        # Not a parameter: another device is no reason to measure again.
        device=config["device"],
        mem_mb=2000,
    params:
        code=fingerprint(*PROBING_PARTS),
        data=folder_of_tokens,
        record=folder_of_record,
        staged="results/staged/{run}",
    shell:
        "python -m gt probe --run {params.record:q} --data {params.data:q} --staged {params.staged:q}"
        " --device {resources.device} --threads {threads} > {log:q} 2>&1"
