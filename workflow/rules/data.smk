# Corpus -> splits; splits -> tokens.


rule corpus:
    input:
        plan=ancient(plan_of_corpus),
        text=own_text,
    output:
        "results/data/{corpus}/corpus.json",
    log:
        "logs/corpus/{corpus}.log",
    benchmark:
        "results/benchmarks/corpus/{corpus}.jsonl"
    conda:
        "../envs/gt.yaml"
    params:
        code=fingerprint("data/corpora", "data/text_files"),
        folder=folder_of_output,
    shell:
        "python -m gt corpus --plan {input.plan:q} --corpus {wildcards.corpus:q} --out {params.folder:q} > {log:q} 2>&1"


rule tokenize:
    input:
        plan=ancient(plan_of_tokenizer),
        corpus="results/data/{corpus}/corpus.json",
    output:
        tokens="results/data/{corpus}/{tokenizer}/tokens.json",
        ngram="results/data/{corpus}/{tokenizer}/ngram.json",
    log:
        "logs/tokenize/{corpus}/{tokenizer}.log",
    benchmark:
        "results/benchmarks/tokenize/{corpus}/{tokenizer}.jsonl"
    conda:
        "../envs/gt.yaml"
    params:
        code=fingerprint("data"),
        splits=folder_of_corpus,
        folder=folder_of_output,
    shell:
        "python -m gt tokenize --plan {input.plan:q} --corpus {params.splits:q} --tokenizer {wildcards.tokenizer:q}"
        " --out {params.folder:q} > {log:q} 2>&1"
