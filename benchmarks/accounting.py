"""Whether runs that share a GPU have, together, what the GPU did: two packs at once, stacked runs, and their measurements.

Trains 30 runs of v4_char's sizes in two processes on one GPU, evaluates and probes them, and sets side by side what the log of
the device says, what the manifests say, and what a run alone would have been charged with. Needs tinyshakespeare
(GT_CORPUS_DIR). Run from the repository root: python benchmarks/accounting.py OUT.json
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import yaml

from gt.artefacts import read_manifest, read_plan
from gt.metering import Event, shares

VARIANTS = (["GF-MH", "HY", "RWKV-6"], ["GPT-2", "Mamba-2", "GF"])
STUDY = Path("config/studies/v4_char.yaml")


def gt(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "gt", *map(str, arguments)]


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        study = yaml.safe_load(STUDY.read_text())
        named = {use["variant"] if isinstance(use, dict) else use: use for use in study["variants"]}
        uses = [named[name] for names in VARIANTS for name in names]
        (folder / "studies").mkdir()
        (folder / "variants").symlink_to(Path("config/variants").resolve())
        file = folder / "studies/accounting.yaml"
        file.write_text(yaml.safe_dump({**study, "variants": uses, "evaluations": [], "baseline": "GPT-2"}))
        subprocess.run(gt("plan", file, "--out", folder / "plan.json"), check=True)
        plan = read_plan(folder / "plan.json")
        (corpus,), (tokenizer,) = plan.corpora, plan.tokenizers
        splits, data = folder / corpus, folder / corpus / tokenizer
        subprocess.run(gt("corpus", "--plan", folder / "plan.json", "--corpus", corpus, "--out", splits), check=True)
        given = ("--plan", folder / "plan.json", "--corpus", splits, "--tokenizer", tokenizer, "--out", data)
        subprocess.run(gt("tokenize", *given), check=True)
        packs = [[run for cell in plan.cells if cell.variant in names for run in cell.runs.values()] for names in VARIANTS]
        running = [
            subprocess.Popen(
                gt(
                    *("pack", "--plans", folder / "plan.json", "--run", *runs, "--data", data, "--runs", folder / "runs"),
                    *("--staged", folder / "staged", "--checkpoints", folder / "checkpoints", "--out", folder / f"{i}.json"),
                    *("--attempts", folder / "attempts", "--devices", folder / "devices", "--measuring", 2),
                )
            )
            for i, runs in enumerate(packs)
        ]
        codes = [process.wait() for process in running]
        found = accounts(folder, [run for runs in packs for run in runs])
    out.write_text(json.dumps({"exit codes": codes, **found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def accounts(folder: Path, runs: list[str]) -> dict[str, object]:
    """What the log, and what the manifests, say of seconds and joules."""
    (log,) = (folder / "devices").glob("*.jsonl")
    events = [Event.model_validate_json(line) for line in log.read_text().splitlines()]
    in_use = [(a, b) for a, b in pairwise(events) if any(a.on.values())]
    by_kind: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for name, share in shares(events).items():
        kind = name.split()[0] if " " in name else "train"
        by_kind[kind][0] += share.seconds
        by_kind[kind][1] += share.joules
    manifests = [read_manifest(folder / "staged" / run) for run in runs if (folder / "staged" / run / "manifest.json").exists()]
    usages = [manifest.usage for manifest in manifests]
    return {
        "runs": len(manifests),
        "log: seconds in use": sum(b.clock - a.clock for a, b in in_use),
        "log: joules meanwhile": sum((b.joules or 0.0) - (a.joules or 0.0) for a, b in in_use),
        "log: shares, seconds and joules": dict(by_kind),
        "manifests: device_seconds": sum(usage.device_seconds or 0.0 for usage in usages),
        "manifests: energy_joules": sum(usage.energy_joules or 0.0 for usage in usages),
        "manifests: unknown": sorted({why for usage in usages for why in usage.unknown.values()}),
        "manifests: seconds, each as if alone": sum(manifest.seconds for manifest in manifests),
        "manifests: peak memory of a run, MB": {
            manifest.run_id.split(".")[0]: round((manifest.usage.peak_memory_bytes or 0) / 1e6, 1) for manifest in manifests
        },
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
