"""`gt bench`: comparisons one after the other, each printed and put into the file as soon as it is done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
import torch

from gt.bench.candidates import affordable, candidates
from gt.bench.events import Json
from gt.bench.measure import compare, with_leads
from gt.bench.measuring import measuring
from gt.bench.recurrences import recurrences
from gt.bench.sizes import merged, sizes
from gt.bench.starts import starts
from gt.bench.step_record import steps
from gt.bench.worlds import worlds
from gt.fingerprint import code_of
from gt.records import read_json, write_json
from gt.training.provenance import provenance

# What is compared with, beside what a run's manifest has.
RIVALS = ("jax", "jaxlib", "optax", "transformers")
# Columns of the table: what they show, and how.
COLUMNS = {
    "ms_a_step": ("ms a step", "{:.2f}"),
    "spread": ("quartiles", "{}"),
    "run_steps_per_second": ("run steps/s", "{:,.0f}"),
    "tokens_per_second": ("tokens/s", "{:,.0f}"),
    "ours_over_it": ("ours / it", "{:.2f}"),
    "parameters": ("parameters", "{:,}"),
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
    "processes": ("processes", "{}"),
    "seconds": ("seconds", "{:.2f}"),
    "speed_up": ("speed-up", "{:.2f}"),
    "same_bits": ("same bits", "{}"),
    "loss_difference": ("loss difference", "{:.1e}"),
    "span_ms": ("from first to last ms", "{:.2f}"),
    "us": ("us", "{:,.1f}"),
    "no_step": ("no kernels", "{}"),
    "error": ("error", "{}"),
}


def bench(
    comparisons: list[str],
    study: Path,
    out: Path,
    device: torch.device,
    gpus: Sequence[str],
    rounds: int,
    seconds: float,
    quick: bool,
) -> None:
    """Measure comparisons, print a table of each and write all numbers to `out`, with what they were measured on.

    Sizes that `out` has from before stay there. ConfigError where the study does not have what a comparison needs.
    """
    about = {
        "study": str(study),
        "rounds": rounds,
        "quick": quick,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "code": code_of("gt.bench.report:bench"),
        **provenance(device),
    }
    about["versions"] |= _rivals()
    known = read_json(out)["results"].get("sizes", []) if "sizes" in comparisons and out.exists() else []
    results: dict[str, list[Json]] = {"sizes": known} if known else {}
    for comparison in comparisons:
        print(f"\n{comparison}\n", flush=True)
        found: list[Json] = []
        if comparison == "ops":
            rows = recurrences(device, rounds, quick)
        elif comparison == "sizes":
            rows = ({**row, **_place(about)} for row in sizes(study, known, device, rounds, seconds, quick))
        elif comparison == "worlds":
            rows = worlds(study, gpus, device, quick)
        else:
            entrants = [c for c in candidates(comparison, study, quick) if affordable(c, device.type == "cuda")]
            measured = {"starts": starts, "measuring": measuring, "step": steps}.get(comparison)
            rows = iter(measured(entrants, device) if measured else compare(entrants, device, rounds, seconds))
        for row in rows:
            found.append(row)
            results[comparison] = merged(known, found) if comparison == "sizes" else found
            write_json(out, {**about, "results": results})
        print(table(found) if found else "nothing that was not measured before, or no time for it", flush=True)
    leads = [row for rows in results.values() for row in with_leads(rows) if "ours_over_it" in row]
    shown = "; ".join(f"{row['name']} {row['ours_over_it']:.2f}" for row in leads)
    print(f"\n{out}{f': ours over {shown}' if leads else ''}")


def _place(about: Json) -> Json:
    """What sessions that fill one file may differ in."""
    return {name: about[name] for name in ("git_commit", "modified", "device", "versions")}


def _rivals() -> dict[str, str]:
    """Versions of what is compared with, where it is installed."""
    found = {}
    for package in RIVALS:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def table(rows: list[Json]) -> str:
    """One line a candidate, with the columns that any of them has."""
    lines = []
    for row in with_leads(rows):
        values = {**row, **(row.get("uncaptured_step") or row.get("step") or {})}
        if "ms_a_step_quartiles" in row:
            values["spread"] = "{:.2f} to {:.2f}".format(*row["ms_a_step_quartiles"])
        if row.get("peak_memory_bytes"):
            values["peak_mib"] = row["peak_memory_bytes"] / 2**20
        shown = {title: form.format(values[key]) for key, (title, form) in COLUMNS.items() if values.get(key) is not None}
        lines.append({"": row["name"], **shown})
    return pd.DataFrame(lines).fillna("").to_string(index=False)
