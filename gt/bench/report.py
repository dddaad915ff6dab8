"""`gt bench`: comparisons one after the other, each printed and put into the file as soon as it is done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gt.bench.candidates import affordable, candidates
from gt.bench.measure import compare
from gt.bench.measuring import measuring
from gt.bench.recurrences import recurrences
from gt.bench.starts import starts
from gt.fingerprint import TRAINING_PARTS, fingerprint
from gt.records import write_json
from gt.training.provenance import provenance

Json = dict[str, Any]
# Columns of the table: what they show, and how.
COLUMNS = {
    "ms_a_step": ("ms a step", "{:.2f}"),
    "spread": ("quartiles", "{}"),
    "run_steps_per_second": ("run steps/s", "{:,.0f}"),
    "tokens_per_second": ("tokens/s", "{:,.0f}"),
    "model_flops_utilisation": ("MFU", "{:.2%}"),
    "kernels": ("kernels", "{:,.0f}"),
    "busy_ms": ("busy ms", "{:.2f}"),
    "validation_ms": ("validation ms", "{:.1f}"),
    "peak_mib": ("peak MiB", "{:,.0f}"),
    "start_seconds": ("start s", "{:.1f}"),
    "cold_seconds": ("cold s", "{:.1f}"),
    "warm_seconds": ("warm s", "{:.1f}"),
    "cold_training_seconds": ("cold s, imports apart", "{:.1f}"),
    "warm_training_seconds": ("warm s, imports apart", "{:.1f}"),
    "training_seconds": ("training s", "{:.1f}"),
    "evaluate_seconds": ("evaluate s", "{:.1f}"),
    "probe_seconds": ("probe s", "{:.1f}"),
    "probe_share": ("probe / training", "{:.0%}"),
    "error": ("error", "{}"),
}


def bench(
    comparisons: list[str], study: Path, out: Path, device: torch.device, rounds: int, seconds: float, quick: bool
) -> None:
    """Measure comparisons, print a table of each and write all numbers to `out`, with what they were measured on.

    ConfigError where the study does not have what a comparison needs.
    """
    about = {
        "study": str(study),
        "rounds": rounds,
        "quick": quick,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "code": {part: fingerprint(part) for part in TRAINING_PARTS},
        **provenance(device),
    }
    results: dict[str, list[Json]] = {}
    for comparison in comparisons:
        print(f"\n{comparison}\n", flush=True)
        if comparison == "ops":
            results["ops"] = []
            for row in recurrences(device, rounds, quick):
                results["ops"].append(row)
                us = f"{row['us']:9.1f} us" if "us" in row else row["error"]
                print(f"{row['op']:10} T {row['time']:5} head {row['head_size']:3} {row['backend']:10} {us}", flush=True)
                write_json(out, {**about, "results": results})
            continue
        entrants = [c for c in candidates(comparison, study, quick) if affordable(c, device.type == "cuda")]
        if special := {"starts": starts, "measuring": measuring}.get(comparison):
            results[comparison] = special(entrants, device)
        else:
            results[comparison] = compare(entrants, device, rounds, seconds)
        write_json(out, {**about, "results": results})
        print(table(results[comparison]), flush=True)
    print(f"\n{out}")


def table(rows: list[Json]) -> str:
    """One line a candidate, with the columns that any of them has."""
    lines = []
    for row in rows:
        values = {**row, **(row.get("uncaptured_step") or row.get("step") or {})}
        if "ms_a_step" in row:
            values["spread"] = "{:.2f} to {:.2f}".format(*row["ms_a_step_quartiles"])
        if row.get("peak_memory_bytes"):
            values["peak_mib"] = row["peak_memory_bytes"] / 2**20
        shown = {title: form.format(values[key]) for key, (title, form) in COLUMNS.items() if values.get(key) is not None}
        lines.append({"": row["name"], **shown})
    return pd.DataFrame(lines).fillna("").to_string(index=False)
