#!/usr/bin/env bash
# Snakemake: a checkpoint that has not run is not run for a file that is there, however old that file is.
#
# A rule whose input function asks for a checkpoint's output gets, until the checkpoint has run, that output as its only known
# input, and Snakemake puts off whether the rule's other inputs are newer to "a second pass, after the checkpoint has run". But
# where the rule's output exists, nothing asks for the checkpoint, so that it never runs and the second pass never comes:
# "Nothing to be done". Here round 1 of a search has run and been summed up; then the search needs round 2, and the summary
# has an input that is newer than it, which alone would make it again. Asked for through a rule without an output (`all`), whose
# own input function asks for the checkpoint, it runs.
#
# Seen with snakemake 9.27.1 and Python 3.11:
#   round 2 is needed and the summary's input is newer: Nothing to be done
#   the same through a rule without output: round 2 runs, and the summary
#
# Exits with 1 where it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet snakemake==9.27.1
cd "$folder"
cat > Snakefile <<'SNAKEFILE'
import os

ROUNDS = int(os.environ["ROUNDS"])


def rounds(wildcards):
    for n in range(1, ROUNDS + 1):
        checkpoints.search.get(n=n)
    return [f"rounds/{n}" for n in range(1, ROUNDS + 1)]


rule all:
    input:
        "summary.txt",
        rounds,


checkpoint search:
    output:
        "rounds/{n}",
    shell:
        "echo {wildcards.n} > {output}"


rule summary:
    input:
        "settings.txt",
        rounds=rounds,
    output:
        "summary.txt",
    shell:
        "cat {input.rounds} > {output}"
SNAKEFILE
run() {
    ROUNDS=$1 "$folder/venv/bin/snakemake" --cores 1 --rerun-triggers mtime -- "$2" > log 2>&1
}
touch settings.txt
run 1 summary.txt
sleep 1.1
echo other > settings.txt
run 2 summary.txt
grep -q "Nothing to be done" log && [ ! -e rounds/2 ]
echo "round 2 is needed and the summary's input is newer: Nothing to be done"
run 2 all
[ "$(tr -d '\n' < summary.txt)" = 12 ]
echo "the same through a rule without output: round 2 runs, and the summary"
