#!/usr/bin/env bash
# Snakemake: with any shell.prefix() its shell commands run without `set -euo pipefail`, so that a command that fails may pass.
#
# Snakemake runs each shell command in bash's strict mode, "by default". A prefix does not stand before that default but in its
# place: a Snakefile that defines a variable or a function for all of its rules has also switched the strict mode off, and none
# of its rules says so. Here a rule whose first command fails ends well with a prefix of `NAME=value;`, and fails without one.
#
# Seen with snakemake 9.27.1 and Python 3.11:
#   without a prefix: the rule fails
#   with one: the rule ends well
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

if "PREFIX" in os.environ:
    shell.prefix(os.environ["PREFIX"])


rule all:
    output:
        "result.txt",
    shell:
        "false; echo made > {output}"
SNAKEFILE
run() {
    "$folder/venv/bin/snakemake" --cores 1 > log 2>&1
}
if run; then exit 1; fi
echo "without a prefix: the rule fails"
PREFIX="NAME=value; " run
grep -q made result.txt
echo "with one: the rule ends well"
