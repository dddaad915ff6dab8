# Run records -> what their networks do inside.


rule probe:
    input:
        unless_current("probe"),
        manifest=made_before("probe", "results/runs/{run}/manifest.json"),
        weights=made_before("probe", "results/runs/{run}/model.safetensors"),
        curves=made_before("probe", "results/runs/{run}/curves.parquet"),
        tokens=made_before("probe", tokens_of_run),
        pack=made_before("probe", pack_of_run),
    output:
        "results/runs/{run}/probes.json",
    log:
        "logs/probe/{run}.log",
    benchmark:
        "results/benchmarks/probe/{run}.jsonl"
    localrule: FETCHED
    conda:
        "../envs/gt.yaml"
    threads: 1
    resources:
        gpu=gpus_to("probe"),
        device=config["device"],
        mem_mb=2000,
    params:
        data=data_of_run,
        record="results/runs/{run}",
        fetch=fetching("probe"),
    shell:
        "{params.fetch} > {log:q} 2>&1 || gt probe --run {params.record:q} --data {params.data:q}"
        " --devices results/devices --device {resources.device} --threads {threads} > {log:q} 2>&1"
