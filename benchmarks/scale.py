"""What a study takes beside its training: planning, the DAG, tables, verdicts, report and import, by its number of runs.

    python benchmarks/scale.py FOLDER 100 300 1000

Makes a project of each number of runs in FOLDER, trains one run a variant, and makes the records of all others of these: with
specifications, numbers and sums of their own, and the weights and curves as links. Then each stage is a process, as the
workflow calls it. Prints the tables of docs/reference/speed.md, and leaves what they are of in FOLDER/many-runs.json.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from gt.artefacts import Plan, read_plan
from gt.attempts import FOLDER as ATTEMPTS
from gt.records import (
    CURVES,
    EVALUATIONS,
    FILES,
    MANIFEST,
    PROBES,
    SPEC,
    WEIGHTS,
    file_sums,
    read_json,
    write_json,
    write_sealed,
)

Json = dict[str, Any]
ROOT = Path(__file__).parents[1]
VARIANTS, RATES, SEEDS = ["GPT-2", "RWKV-6", "Mamba-2", "GF"], [0.001, 0.002, 0.004, 0.008, 0.016], 5
STUDY, PATTERN, COMPARISON = "many", "pattern", "many_runs"
# In a process of its own: the peak memory that the system tells of a process is at least that of the one that started it.
ABOUT = """
import json, torch
from gt.training.provenance import provenance
print(json.dumps(provenance(torch.device("cpu"))))
"""
TINY: Json = {
    "title": "Many runs",
    "baseline": VARIANTS[0],
    "variants": VARIANTS,
    "corpora": ["embedded"],
    "tokenizers": [{"name": "char"}],
    "model": {
        "d_model": 16,
        "n_layer": 2,
        "mixers": {"rwkv6": {"head_size": 8}, "mamba2": {"head_dim": 8, "d_state": 8}, "attention": {"n_head": 2}},
    },
    "training": {
        "steps": 60,
        "batch_size": 2,
        "sequence_length": 16,
        "evaluate_every": 10,
        "evaluation_tokens": 256,
        "log_every": 1,
    },
}
RATE, DECAY = "training.learning_rate", "training.weight_decay"


def make_project(folder: Path, runs: int) -> None:
    """The two studies and the claims of one; of each weight decay there are all variants at all rates."""
    per_decay = len(VARIANTS) * len(RATES) * SEEDS
    if runs % per_decay:
        raise SystemExit(f"{runs} runs: must be a multiple of {per_decay}.")
    decays = [round(0.001 * (i + 1), 3) for i in range(runs // per_decay)]
    config = folder / "config"
    (config / "studies").mkdir(parents=True)
    (config / "claims").mkdir()
    (config / "variants").symlink_to(ROOT / "config/variants")
    (config / "config.yaml").write_text(f"study: {STUDY}\n")
    for name, n, factors in ((PATTERN, 1, {RATE: RATES[:1], DECAY: decays[:1]}), (STUDY, SEEDS, {RATE: RATES, DECAY: decays})):
        (config / f"studies/{name}.yaml").write_text(yaml.safe_dump({**TINY, "seeds": n, "factors": factors}))
    claims = {f"MANY-{i + 1}": claim(decay) for i, decay in enumerate(decays)}
    (config / "claims/many.yaml").write_text(yaml.safe_dump(claims))


def claim(decay: float) -> Json:
    """About one weight decay."""
    test = {"test": "compare", "metric": "val/bits_per_byte", "a": "GF", "is": "lower", "b": "GPT-2"}
    return {
        "title": f"GF is better at a weight decay of {decay:g}",
        "sentence": f"At a weight decay of {decay:g} GF has fewer bits per byte than GPT-2.",
        "source": "benchmarks/scale.py",
        "study": STUDY,
        "where": {"factors": {"learning_rate": RATES[0], "weight_decay": decay}},
        "predicate": [test],
        "seeds": SEEDS,
    }


def make_records(results: Path, plan: Plan) -> None:
    """All that are not there yet, each of that of its variant in the other study."""
    known = {cell.variant: next(iter(cell.runs.values())) for cell in read_plan(results / f"studies/{PATTERN}/plan.json").cells}
    random = np.random.default_rng(0)
    for cell in plan.cells:
        effect = random.normal(0, 0.02)
        for run in cell.runs.values():
            copy = Copy(results, known[cell.variant], run, effect + random.normal(0, 0.005))
            if not copy.record.exists():
                copy.make(plan.runs[run].model_dump(mode="json"))


class Copy:
    """A run whose record is made of another's: its losses are so many times larger, less one."""

    def __init__(self, results: Path, pattern: str, run: str, larger: float) -> None:
        self.results, self.pattern, self.run, self.larger = results, results / "runs" / pattern, run, larger
        self.record = results / "runs" / run

    def make(self, spec: Json) -> None:
        self.record.mkdir()
        for name in (CURVES, WEIGHTS):
            os.link(self.pattern / name, self.record / name)
        write_json(self.record / SPEC, spec, durable=False)
        for file in sorted((self.pattern / EVALUATIONS).iterdir()):
            self.write(f"{EVALUATIONS}/{file.name}", self.measured)
        self.write(PROBES, self.measured)
        self.write(MANIFEST, lambda own: own | {FILES: own[FILES] | file_sums(self.record, [SPEC])})
        for file in sorted((self.results / ATTEMPTS / self.pattern.name).iterdir()):
            own = json.loads(file.read_text())
            write_sealed(self.results / ATTEMPTS / self.run / file.name, own | {"run_id": self.run}, durable=False)

    def write(self, name: str, change: Callable[[Json], Json]) -> None:
        own = json.loads((self.pattern / name).read_text())
        write_sealed(self.record / name, change(own | {"run_id": self.run}), durable=False)

    def measured(self, own: Json) -> Json:
        for measurement in own["measurements"]:
            if measurement["metric"] in ("<split>/loss", "<split>/bits_per_byte"):
                measurement["value"] *= 1 + self.larger
        return own


def measure(folder: Path, runs: int) -> Json:
    """Seconds, processor seconds and peak bytes of each stage, and the files that there are at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    make_project(folder, runs)
    study, claims, templates = Path(f"results/studies/{STUDY}"), "config/claims", ROOT / "report_templates"
    records = ("--plan", study / "plan.json", "--runs", "results/runs")
    found: Json = {}

    def stage(name: str, *arguments: object) -> None:
        found[name] = timed(folder, name, [sys.executable, "-m", *map(str, arguments)])
        print(f"{runs} runs: {name}: {found[name]}", file=sys.stderr, flush=True)

    def noted(name: str) -> tuple[object, ...]:
        return "--note", study / "made-of" / name.split()[0]

    timed(folder, "pattern", [sys.executable, "-m", *snakemake("--config", f"study={PATTERN}")])
    stage("plan", "gt", "plan", STUDY, "--out", study / "plan.json")
    stage("dry run, no records", *snakemake("-n", "--quiet"))
    make_records(folder / "results", read_plan(folder / study / "plan.json"))
    stage("dry run, no tables", *snakemake("-n", "--quiet"))
    stage("aggregate", "gt", "aggregate", *records, "--out", study, *noted("aggregate"))
    stage("claims", "gt", "claims", "judge", "--study", study, "--claims", claims, *noted("claims"))
    stage("figures", "gt", "figures", "--study", study, *noted("figures"))
    stage("report", "gt", "report", "--study", study, "--claims", claims, "--templates", templates, *noted("report"))
    track = ("gt", "track", *records, "--uri", "sqlite:///results/mlflow.db", "--out", study / "tracking.json", *noted("track"))
    stage("track", *track)
    stage("track again", *track)
    stage("nothing to do", *snakemake())
    if "Nothing to be done" not in (folder / "nothing to do.log").read_text():
        raise SystemExit(f"{folder}: there was something to do; see nothing to do.log")
    return {"runs": runs, "stages": found, "files": census(folder / "results")}


def snakemake(*arguments: str) -> list[str]:
    places = ("--snakefile", str(ROOT / "workflow/Snakefile"), "--workflow-profile", str(ROOT / "workflow/profiles/default"))
    return ["snakemake", "--cores", "1", *places, *arguments]


def timed(folder: Path, name: str, command: list[str]) -> Json:
    """What a process and those that it waits for take. What it says is left in a file."""
    path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with open(folder / f"{name}.log", "w") as log:
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": path})
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{folder}: {name} failed; see {name}.log")
    taken = {"seconds": time.monotonic() - began, "cpu_seconds": usage.ru_utime + usage.ru_stime}
    return {name: round(value, 2) for name, value in taken.items()} | {"peak_bytes": usage.ru_maxrss * 1024}


def census(results: Path) -> Json:
    """By the folders of results/: how many files and folders, their bytes, and how many names the largest of them has."""
    found: Json = {}
    for top in sorted(results.iterdir()):
        names: Counter[Path] = Counter()
        n_bytes = 0
        for path in (top, *top.rglob("*")):
            names[path.parent] += 1
            n_bytes += path.stat().st_size if path.is_file() else 0
        del names[results]
        found[top.name] = {"inodes": 1 + sum(names.values()), "bytes": n_bytes, "largest": max(names.values(), default=0)}
    return found


def main(folder: Path, sizes: list[int]) -> None:
    file, about = folder / "many-runs.json", json.loads(subprocess.check_output([sys.executable, "-c", ABOUT]))
    known = {row["runs"]: row for row in read_json(file)["results"][COMPARISON]} if file.exists() else {}
    for runs in sizes:
        known[runs] = measure(folder / str(runs), runs)
        results = {COMPARISON: [known[size] for size in sorted(known)]}
        write_json(file, {**about, "cpus": os.cpu_count(), "results": results})
    from gt.bench.many_runs import files, stages

    rows = [known[size] for size in sorted(known)]
    print("\n".join([*stages(rows), "", *files(rows[-1])]))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), [int(size) for size in sys.argv[2:]])
