# Tokens -> run records. A run's name contains the hash of its specification, so a changed study retrains only what changed.
#
# A pack trains many runs in one process, evaluates and probes them, in `measuring_jobs` processes, and leaves them in
# results/staged/; `train`, `evaluate` and `probe` then fetch them from there. Nothing finished is lost if one of these jobs is
# killed. With a pack_size of 1 there are no packs.
#
# Attempts and the logs of GPUs are outputs of no rule: what Snakemake makes again, it removes first.


rule pack:
    input:
        plans=ancient(plans_of_pack),
        tokens=ancient(tokens_of_pack),
    output:
        # Temporary: a run whose record is missing later on asks for its pack again, which trains that run alone.
        temp("results/packs/{pack}.json"),
    log:
        "logs/pack/{pack}.log",
    benchmark:
        "results/benchmarks/pack/{pack}.jsonl"
    conda:
        "../envs/gt.yaml"
    threads: 1
    resources:
        gpu=GPU_PER_JOB,
        device=config["device"],
        measuring_jobs=config["measuring_jobs"],
        # Text, since a resource is no fraction.
        checkpoint_seconds=str(config["checkpoint_seconds"]),
        mem_mb=8000 + 2000 * (config["measuring_jobs"] - 1),
        # Slurm's plug-in asks for so many cores; `threads` are those of each process.
        cpus_per_task=config["measuring_jobs"],
    params:
        data=data_of_pack,
        runs=runs_of_pack,
        # The second has only what failed in the first, which here no job of the run's own tries again.
        tries=[1, 2] if SENT else [1],
    shell:
        "for try in {params.tries}; do gt pack --plans {input.plans:q} --run {params.runs:q} --data {params.data:q} --runs results/runs"
        " --staged results/staged --checkpoints results/checkpoints --attempts results/attempts --devices results/devices"
        " --out {output:q} --measuring {resources.measuring_jobs}"
        " --checkpoint-seconds {resources.checkpoint_seconds} --device {resources.device} --threads {threads}; done"
        " > {log:q} 2>&1"


rule train:
    input:
        unless_current("train"),
        plan=ancient(plan_of_run),
        tokens=made_before("train", tokens_of_run),
        pack=made_before("train", pack_of_run),
    output:
        spec="results/runs/{run}/spec.json",
        manifest="results/runs/{run}/manifest.json",
        curves="results/runs/{run}/curves.parquet",
        weights="results/runs/{run}/model.safetensors",
    log:
        "logs/train/{run}.log",
    benchmark:
        "results/benchmarks/train/{run}.jsonl"
    localrule: FETCHED
    conda:
        "../envs/gt.yaml"
    # One thread a run, whatever --cores is: threads decide the last bits of a sum.
    threads: 1
    resources:
        gpu=gpus_to("train"),
        device=config["device"],
        checkpoint_seconds=str(config["checkpoint_seconds"]),
        mem_mb=2000,
    params:
        data=data_of_run,
        record=folder_of_output,
        # Not an output: Snakemake removes outputs of failed jobs, and a killed run goes on from here.
        checkpoints="results/checkpoints/{run}",
        fetch=fetching("train"),
    shell:
        "{params.fetch} > {log:q} 2>&1 || gt train --plan {input.plan:q} --run {wildcards.run:q} --data {params.data:q}"
        " --out {params.record:q} --checkpoints {params.checkpoints:q} --checkpoint-seconds {resources.checkpoint_seconds}"
        " --attempts results/attempts --devices results/devices"
        " --device {resources.device} --threads {threads} > {log:q} 2>&1"


rule evaluate:
    input:
        unless_current("evaluate"),
        manifest=made_before("evaluate", "results/runs/{run}/manifest.json"),
        weights=made_before("evaluate", "results/runs/{run}/model.safetensors"),
        tokens=made_before("evaluate", tokens_of_run),
        pack=made_before("evaluate", pack_of_run),
    output:
        # Not removed beforehand; and beside it, what other studies have asked for stays.
        update("results/runs/{run}/evaluations/held_out.json"),
    log:
        "logs/evaluate/{run}.log",
    benchmark:
        "results/benchmarks/evaluate/{run}.jsonl"
    localrule: FETCHED
    conda:
        "../envs/gt.yaml"
    threads: 1
    resources:
        gpu=gpus_to("evaluate"),
        device=config["device"],
        mem_mb=2000,
    params:
        names=evaluations_of_run,
        data=data_of_run,
        record="results/runs/{run}",
        fetch=fetching("evaluate"),
    shell:
        "{params.fetch} > {log:q} 2>&1 || gt evaluate --run {params.record:q} --data {params.data:q}"
        " --evaluations {params.names:q} --devices results/devices"
        " --device {resources.device} --threads {threads} > {log:q} 2>&1"
