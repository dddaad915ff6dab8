# Finished records -> a store elsewhere (config: store), from which a machine that has none takes them (gt/store.py).
#
# What else is in results/ is of its machine: texts, tokens, tables and reports, which are made again; checkpoints, locks and what
# packs have staged, which are of runs that are not finished.


rule store:
    input:
        unless_current("store"),
        manifest=made_before("store", "results/runs/{run}/manifest.json"),
        measured=made_before("store", measured_of_run),
    output:
        note=f"{STORED}/{{run}}",
    log:
        "logs/store/{run}.log",
    localrule: True
    conda:
        "../envs/gt.yaml"
    params:
        store=config["store"],
    shell:
        "python -m gt.store {params.store:q} results {wildcards.run:q} {output.note:q} > {log:q} 2>&1"
