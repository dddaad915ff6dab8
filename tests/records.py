"""Synthetic run records from a known model, for the tests of what reads records.

bits per byte = LEVEL[tokenizer] + EFFECT[variant] + (an offset of the seed, shared by all variants) + (noise of the run),
where the noise is at most 0.001: the seed's offset is large, so only paired statistics see the small effects.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gt.spec import RunSpec

Json = dict[str, Any]
EFFECT = {"GPT-2": 0.0, "RWKV-6": -0.08, "GF": -0.12, "GF-MH": -0.1204, "HY": 0.0004, "WS": 0.05}
FUSIONS = {"GF": 0.5, "GF-MH": 0.3, "WS": 0.5}
LEVEL = {"char": 2.3, "bpe1024": 2.1}
BYTES_PER_TOKEN = {"char": 1.0, "bpe1024": 2.7}
STEPS, EVERY, TOKENS_PER_STEP = 250, 10, 1024
START = 1_790_000_000.0


def plan(seeds: int = 5, variants: dict[str, float] = EFFECT, tokenizers: tuple[str, ...] = ("char", "bpe1024")) -> Json:
    """A plan in the form of `gt plan`. Model sizes are not in it; manifests have them."""
    specs = {"char": {"name": "char", "vocab_size": None}, "bpe1024": {"name": "bpe", "vocab_size": 1024}}
    corpus = {"name": "embedded", "max_bytes": None, "sha256": None}
    cells, runs = [], {}
    for tokenizer in tokenizers:
        for variant in variants:
            ids = {str(seed): f"{variant}.{tokenizer}.s{seed}-0123456789" for seed in range(seeds)}
            cell = {"id": f"{variant}.embedded.{tokenizer}", "variant": variant, "corpus": "embedded", "tokenizer": tokenizer}
            cells.append({**cell, "factors": {}, "runs": ids})
            for seed, run_id in ids.items():
                fused = variant in FUSIONS
                mixers = {"r": {"name": "rwkv6"}, **({"m": {"name": "mamba2"}} if fused else {})}
                model = {
                    "d_model": 64,
                    "n_layer": 2,
                    "layers": "r+m" if fused else "r",
                    "mixers": mixers,
                    "fusion": {"name": "gated"} if fused else None,
                    "feed_forward": {"name": "mlp"},
                }
                training = {"steps": STEPS, "batch_size": 16, "sequence_length": 64, "learning_rate": 0.003}
                spec = {
                    "corpus": corpus,
                    "tokenizer": specs[tokenizer],
                    "model": model,
                    "training": training,
                    "seed": int(seed),
                }
                runs[run_id] = spec
    return {
        "study": "synthetic",
        "title": "Synthetic records & known answers",
        "description": "Numbers from a known model, so that what the analysis must find is known.",
        "baseline": "GPT-2",
        "evaluations": ["long_context", "generation", "quantisation"],
        "dollars_per_hour": 2.0,
        "tokens": STEPS * TOKENS_PER_STEP * len(runs),
        "cells": cells,
        "runs": runs,
        "corpora": {"embedded": corpus},
        "tokenizers": {name: specs[name] for name in tokenizers},
        "corpus_files": {},
    }


def identified(study: Json) -> Json:
    """The same plan with the ids that the specifications give: each ends in the first digits of its sum."""
    ids = {run: f"{run.rpartition('-')[0]}-{RunSpec.model_validate(spec).sha256[:10]}" for run, spec in study["runs"].items()}
    cells = [{**cell, "runs": {seed: ids[run] for seed, run in cell["runs"].items()}} for cell in study["cells"]]
    return {**study, "cells": cells, "runs": {ids[run]: spec for run, spec in study["runs"].items()}}


def named(study: Json, label: str) -> str:
    """The id of the run with this label: variant, tokenizer and seed."""
    (run_id,) = (own for own in study["runs"] if own.startswith(f"{label}-"))
    return str(run_id)


def bits_per_byte(variant: str, tokenizer: str, seed: int) -> float:
    """The known answer for one run."""
    offset = 0.03 * math.sin(3 + 7 * seed)
    noise = 0.001 * math.sin(seed * 12.9898 + 78.233 * list(EFFECT).index(variant) + len(tokenizer))
    return LEVEL[tokenizer] + EFFECT[variant] + offset + noise


def write_runs(study: Json, runs_dir: Path, troubled: bool = True) -> None:
    """All records of a plan. `troubled`: in char, WS's seed 1 diverged, HY's seed 1 failed and HY's seed 2 is missing."""
    trouble = {("WS", 1): "diverged", ("HY", 1): "failed", ("HY", 2): "missing"} if troubled else {}
    for cell in study["cells"]:
        for seed, run_id in cell["runs"].items():
            status = trouble.get((cell["variant"], int(seed)), "completed") if cell["tokenizer"] == "char" else "completed"
            if status == "failed":
                write(runs_dir / run_id / "failure.json", {"error": "OutOfMemoryError: 40 MiB | asked for", "step": None})
            elif status != "missing":
                write_run(runs_dir / run_id, run_id, cell, int(seed), study["runs"][run_id], status)


def write_run(folder: Path, run_id: str, cell: Json, seed: int, spec: Json, status: str = "completed") -> None:
    """One record: spec, manifest, curves, evaluation, and weights that nobody may open."""
    variant, tokenizer = cell["variant"], cell["tokenizer"]
    final = bits_per_byte(variant, tokenizer, seed)
    to_loss = math.log(2) * BYTES_PER_TOKEN[tokenizer]
    order = list(EFFECT).index(variant)
    last = STEPS if status == "completed" else 120
    tokens_per_second = 9000.0 + 500 * order + 10 * seed
    sizes = {"n_params": 130_000 + 9_000 * order, "n_params_non_embedding": 100_000 + 9_000 * order}
    manifest = {
        "run_id": run_id,
        "status": status,
        "steps_completed": last,
        "data_sha256": f"{tokenizer:0<64}"[:64],
        "vocab_size": 97 if tokenizer == "char" else 1024,
        "code": {part: f"{part:0<16}"[:16] for part in ("seeds", "spec", "data", "ops", "models", "training")},
        "versions": {"python": "3.11.2", "torch": "2.13.0"},
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "git_dirty": False,
        "device": "cpu (Test CPU)",
        "threads": 1,
        "engine": "eager",
        "backend": {"wkv6 32x32": "chunked"},
        "started": "2026-09-21T14:13:20+00:00",
        "finished": "2026-09-21T14:13:50+00:00",
        "seconds": last * TOKENS_PER_STEP / tokens_per_second,
        "tokens": last * TOKENS_PER_STEP,
        "tokens_per_second": tokens_per_second,
        "peak_memory_bytes": 500_000_000 + 1_000_000 * order,
        "energy_joules": None,
        **sizes,
        "state_size": 4096 * (order + 1),
        "flops_per_token": 250_000 + 30_000 * order,
        "resumed_from": [],
    }
    values = {"loss": final * to_loss, "bits_per_byte": final, "perplexity": math.exp(final * to_loss)}
    positions = [{"context": 2**i, "to": 2 ** (i + 1) - 1, "loss": final * to_loss + 2.0**-i} for i in range(7)]
    measured = {"tokens": round(8192 / BYTES_PER_TOKEN[tokenizer]), "bytes": 8192, "from_byte": 3, "unknown": 0}
    split = {**values, **measured, "by_position": positions}
    lines = {"uniform": 6.6, "unigram": 4.4, "bigram": 3.4, "trigram": 2.8}
    evaluation = {
        "run_id": run_id,
        "status": status,
        "splits": {"val": split, "test": {**split, "bits_per_byte": final + 0.02}} if status == "completed" else {},
        "ngram": {name: {"loss": bits * to_loss, "bits_per_byte": bits} for name, bits in lines.items()},
        "evaluations": ["generation", "long_context", "quantisation"],
        "code": "e" * 16,
        **(further(final * to_loss, variant) if status == "completed" else {}),
    }
    write(folder / "spec.json", spec)
    pq.write_table(_curves(variant, final, to_loss, last, seed, status), folder / "curves.parquet")
    write(folder / "manifest.json", manifest)
    write(folder / "evaluation.json", evaluation)
    (folder / "model.safetensors").write_bytes(b"weights")


def further(loss: float, variant: str) -> Json:
    """What is measured beside the held-out losses: each doubling of the context halves a loss's distance to its end."""
    contexts = [
        {"context": 8 * 2**i, "loss": loss + 0.5**i, "shuffled_loss": loss + 1.0, "gain": 1 - 0.5**i, "gain_se": 0.01}
        for i in range(8)
    ]
    contexts[-1] |= dict.fromkeys(("loss", "shuffled_loss", "gain", "gain_se")) if variant == "GPT-2" else {}
    grows = variant == "GPT-2"
    lengths = [
        {
            "length": n,
            "tokens_per_second": 1e5 / n if grows else 900.0,
            "state_bytes": 512 * n if grows else 40_000,
            "peak_bytes": None,
        }
        for n in (64, 256, 1024)
    ]
    costs = [
        {
            "length": n,
            "batch": batch,
            "flops_per_token": 250_000,
            "state_size": 4096,
            "forward_tokens_per_second": 3000.0 * batch,
            "forward_peak_bytes": 2**20 * n * batch,
            "training_tokens_per_second": 1000.0 * batch,
            "training_peak_bytes": 2**22 * n * batch,
        }
        for n in (64, 256)
        for batch in (1, 8)
    ]
    case = {"case": "state/mamba2/int8", "difference": 0.002, "se": 0.001, "perplexity_ratio": math.exp(0.002)}
    return {
        "long_context": {"trained_length": 64, "targets": 512, "contexts": contexts, "useful_window": 256, "held_to": 16.0},
        "recall": recalled(),
        "generation": {"lengths": lengths},
        "cost": {"cells": costs},
        "quantisation": {"loss": loss, "targets": 2048, "cases": [case] if variant == "GF" else []},
    }


def recalled(task: str = "mqar") -> Json:
    """The recall of a model that answers three of four questions, and fewer the more pairs there are."""
    share = {"accuracy": 0.75, "lower": 0.7, "upper": 0.8, "n": 400}
    by_items = [
        {"items": n, "accuracy": 1 - n / 16, "lower": 0.95 - n / 16, "upper": 1.05 - n / 16, "n": 100} for n in (2, 4, 8)
    ]
    return {
        "task": task,
        "chance": 1 / 64,
        **share,
        "episodes": {**share, "accuracy": 0.5},
        "control": {"accuracy": 0.02, "lower": 0.01, "upper": 0.04, "n": 400},
        "by_items": by_items,
        "by_distance": [{**share, "distance": n, "to": 2 * n - 1} for n in (4, 8, 16)],
        "by_length": [{**share, "length": 64}, {"length": 128, **dict.fromkeys(("accuracy", "lower", "upper", "n"))}],
    }


def write(path: Path, value: Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file."""
    write(path, {**json.loads(path.read_text()), **changes})


def _curves(variant: str, final: float, to_loss: float, last: int, seed: int, status: str) -> pa.Table:
    step = np.arange(0, last + 1, EVERY)
    speed = 60 / (1 + 0.1 * list(EFFECT).index(variant))
    bits = final + 4.0 * np.exp(-step / speed) * (1 + 0.02 * np.sin(seed + step))
    evaluated = step % (5 * EVERY) == 0
    val = np.where(evaluated, bits, np.nan)
    train = np.where(step > 0, bits + 0.03 * np.sin(step + seed), np.nan)
    if status == "diverged":
        train[-1], val[-1] = np.inf, np.nan
    columns = {
        "step": step,
        "tokens": step * TOKENS_PER_STEP,
        "timestamp": START + 0.1 * step + 0.5,
        "train/loss": train * to_loss,
        "train/bits_per_byte": train,
        "val/loss": val * to_loss,
        "val/bits_per_byte": val,
        "learning_rate": 0.003 * np.cos(step / STEPS),
        "grad_norm": np.where(step > 0, 1.0 + 0.1 * np.cos(step), np.nan),
    }
    if variant in FUSIONS:
        gate = np.where(evaluated, FUSIONS[variant] + 0.1 * step / STEPS + 0.01 * np.sin(seed), np.nan)
        columns |= {"gate/mean": gate, "gate/layer_0": gate - 0.05, "gate/layer_1": gate + 0.05}
    return pa.table(columns)
