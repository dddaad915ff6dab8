# Runs on seeds that judge nothing -> the settings of the cells that are tuned. Runs so far -> the cells that get more seeds.
#
# What was chosen is a function of the runs there are (gt/tuning.py), and stands in the plan: `tune` only says that a set of them
# is there. A look is written down. Then the plan is made anew, and asks for what follows.


checkpoint tune:
    input:
        evaluations_of_trials,
    output:
        touch("results/studies/{study}/tuning/{name}"),
    localrule: True


checkpoint look:
    input:
        plan=ancient("results/studies/{study}/plan.json"),
        records=ancient(measured_so_far),
    output:
        "results/studies/{study}/looks/{name}.json",
    log:
        "logs/look/{study}/{name}.log",
    localrule: True
    conda:
        "../envs/gt.yaml"
    params:
        claims=claim_folder,
    shell:
        "gt look --plan {input.plan:q} --runs results/runs --claims {params.claims:q} --out {output:q} > {log:q} 2>&1"
