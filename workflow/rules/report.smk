# Run records -> tables, figures, report.


rule aggregate:
    input:
        unless_current("aggregate"),
        plan=ancient("results/studies/{study}/plan.json"),
        records=made_before("aggregate", measured_of_runs),
    output:
        multiext(
            "results/studies/{study}/",
            runs="runs.parquet",
            cells="cells.parquet",
            contrasts="contrasts.parquet",
            curves="curves.parquet",
            evaluations="evaluations.parquet",
            probes="probes.parquet",
            tuning="tuning.parquet",
            coverage="coverage.json",
        ),
        note="results/studies/{study}/made-of/aggregate",
    log:
        "logs/aggregate/{study}.log",
    localrule: True
    conda:
        "../envs/gt.yaml"
    params:
        folder=folder_of_output,
    shell:
        "gt aggregate --plan {input.plan:q} --runs results/runs --out {params.folder:q} --note {output.note:q}"
        " > {log:q} 2>&1"


rule figures:
    input:
        unless_current("figures"),
        made_before("figures", rules.aggregate.output),
    output:
        note="results/studies/{study}/made-of/figures",
        folder=report(
            directory("results/studies/{study}/figures"),
            patterns=["{name}.svg"],
            caption="../report/figures.rst",
            category="{study}",
            labels={"what": "figure", "name": "{name}"},
        ),
    log:
        "logs/figures/{study}.log",
    localrule: True
    conda:
        "../envs/gt.yaml"
    threads: 2
    params:
        folder=folder_of_figures,
    shell:
        "gt figures --study {params.folder:q} --jobs {threads} --note {output.note:q} > {log:q} 2>&1"


rule report:
    input:
        unless_current("report"),
        made_before("report", rules.aggregate.output),
        claims=ancient(claims_of_study),
        verdicts=made_before("report", "results/studies/{study}/claims.json"),
        figures=made_before("report", rules.figures.output.note),
        templates=ancient(sorted(map(str, TEMPLATES.iterdir()))),
    output:
        html=report(
            "results/studies/{study}/report.html",
            caption="../report/paper.rst",
            category="{study}",
            labels={"what": "paper", "name": "report"},
        ),
        markdown="results/studies/{study}/report.md",
        pdf="results/studies/{study}/report.pdf",
        tables=directory("results/studies/{study}/tables"),
        claims=directory("results/studies/{study}/claims"),
        note="results/studies/{study}/made-of/report",
    log:
        "logs/report/{study}.log",
    localrule: True
    conda:
        "../envs/gt.yaml"
    params:
        folder=folder_of_output,
        about=claim_folder,
        templates=TEMPLATES,
    shell:
        "gt report --study {params.folder:q} --claims {params.about:q} --templates {params.templates:q}"
        " --note {output.note:q} > {log:q} 2>&1"
