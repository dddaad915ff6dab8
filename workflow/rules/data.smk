# Corpus -> splits; splits -> tokens.


rule corpus:
    input:
        unless_current("corpus"),
        plan=ancient(plan_of_corpus),
        text=ancient(own_text),
    output:
        corpus="results/data/{corpus}/corpus.json",
        note="results/data/{corpus}/made-of",
    log:
        "logs/corpus/{corpus}.log",
    benchmark:
        "results/benchmarks/corpus/{corpus}.jsonl"
    conda:
        "../envs/gt.yaml"
    params:
        folder=folder_of_output,
    shell:
        "gt corpus --plan {input.plan:q} --corpus {wildcards.corpus:q} --out {params.folder:q} --note {output.note:q}"
        " > {log:q} 2>&1"


rule tokenize:
    input:
        unless_current("tokenize"),
        plan=ancient(plan_of_tokenizer),
        corpus=made_before("tokenize", "results/data/{corpus}/corpus.json"),
        own=ancient(own_tokenizer),
    output:
        tokens="results/data/{corpus}/{tokenizer}/tokens.json",
        ngram="results/data/{corpus}/{tokenizer}/ngram.json",
        note="results/data/{corpus}/{tokenizer}/made-of",
    log:
        "logs/tokenize/{corpus}/{tokenizer}.log",
    benchmark:
        "results/benchmarks/tokenize/{corpus}/{tokenizer}.jsonl"
    conda:
        "../envs/gt.yaml"
    params:
        splits="results/data/{corpus}",
        folder=folder_of_output,
    threads: 2
    shell:
        "gt tokenize --plan {input.plan:q} --corpus {params.splits:q} --tokenizer {wildcards.tokenizer:q}"
        " --out {params.folder:q} --threads {threads} --note {output.note:q} > {log:q} 2>&1"
