# Run records -> tables, figures, report.


rule aggregate:
    input:
        plan="results/studies/{study}/plan.json",
        records=files_of_runs("evaluation.json"),
        probes=files_of_runs("probes.json"),
    output:
        multiext(
            "results/studies/{study}/",
            runs="runs.parquet",
            cells="cells.parquet",
            contrasts="contrasts.parquet",
            curves="curves.parquet",
            evaluations="evaluations.parquet",
            probes="probes.parquet",
            coverage="coverage.json",
        ),
    log:
        "logs/aggregate/{study}.log",
    conda:
        "../envs/gt.yaml"
    params:
        code=fingerprint("analysis"),
        folder=folder_of_output,
    shell:
        "python -m gt aggregate --plan {input.plan:q} --runs results/runs --out {params.folder:q} > {log:q} 2>&1"


rule figures:
    input:
        rules.aggregate.output,
    output:
        touch("results/studies/{study}/figures.done"),
        folder=report(
            directory("results/studies/{study}/figures"),
            patterns=["{name}.svg"],
            caption="../report/figures.rst",
            category="{study}",
            labels={"what": "figure", "name": "{name}"},
        ),
    log:
        "logs/figures/{study}.log",
    conda:
        "../envs/gt.yaml"
    threads: 2
    params:
        code=fingerprint(
            *("report/gallery", "report/drawing", "report/svg"),
            *("report/figures", "report/evaluation_figures", "report/sweeps"),
            *("report/inside", "report/inside_figures"),
            *("report/tables", "report/evaluation_tables"),
            *("report/numbers", "report/text"),
        ),
        folder=folder_of_output,
    shell:
        "python -m gt figures --study {params.folder:q} --jobs {threads} > {log:q} 2>&1"


rule report:
    input:
        rules.aggregate.output,
        claims=CLAIMS,
        verdicts="results/studies/{study}/claims.json",
        figures="results/studies/{study}/figures.done",
        templates=expand(ROOT / "report_templates/{file}", file=TEMPLATES),
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
    log:
        "logs/report/{study}.log",
    conda:
        "../envs/gt.yaml"
    params:
        code=fingerprint(
            "report", "probes/metrics", "probes/thresholds", "probes/verdicts"
        ),
        folder=folder_of_output,
        templates=ROOT / "report_templates",
    shell:
        "python -m gt report --study {params.folder:q} --templates {params.templates:q} > {log:q} 2>&1"
