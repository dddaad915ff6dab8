"""Synthetic run records from a known model, for the tests of what reads records.

bits per byte = LEVEL[tokenizer] + EFFECT[variant] + (an offset of the seed, shared by all variants) + (noise of the run),
where the noise is at most 0.001: the seed's offset is large, so only paired statistics see the small effects.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gt.artefacts import Attempt, Evaluation, Failure, Manifest, Plan, Probes, Usage, evaluation_file, read_evaluation
from gt.artefacts import write as write_artefact
from gt.attempts import FOLDER, new_id
from gt.fingerprint import code_of_evaluation, code_of_probes, code_of_training
from gt.metrics import Measurement, Value
from gt.records import CURVES, FAILURE, MANIFEST, PROBES, SPEC, WEIGHTS, file_sha256, file_sums, write_json, write_sealed
from gt.registry import named as read_name
from gt.spec import RunSpec

Json = dict[str, Any]
EFFECT = {"GPT-2": 0.0, "RWKV-6": -0.08, "GF": -0.12, "GF-MH": -0.1204, "HY": 0.0004, "WS": 0.05}
FUSIONS = {"GF": 0.5, "GF-MH": 0.3, "WS": 0.5}
LEVEL = {"char": 2.3, "bpe1024": 2.1}
BYTES_PER_TOKEN = {"char": 1.0, "bpe1024": 2.7}
ALONE = {"d_model": 64, "n_layer": 2, "layers": "r", "mixers": {"r": {"name": "rwkv6"}}}
STEPS, EVERY, TOKENS_PER_STEP = 250, 10, 1024
START = 1_790_000_000.0
MEASURED = datetime(2026, 9, 21, 14, 14, tzinfo=UTC)


def plan(seeds: int = 5, variants: dict[str, float] = EFFECT, tokenizers: tuple[str, ...] = ("char", "bpe1024")) -> Json:
    """A plan as `gt plan` writes it, to be changed and then read by `planned`. Model sizes are in the manifests alone."""
    specs = {"char": {"name": "char", "vocab_size": None}, "bpe1024": {"name": "bpe", "vocab_size": 1024}}
    cells = []
    for tokenizer in tokenizers:
        for variant in variants:
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
            cell = {"id": f"{variant}.embedded.{tokenizer}", "variant": variant, "corpus": "embedded", "tokenizer": tokenizer}
            cells.append(({**cell, "factors": {}}, {"model": model, "tokenizer": specs[tokenizer]}, range(seeds)))
    return assembled("synthetic", cells) | {
        "title": "Synthetic records & known answers",
        "description": "Numbers from a known model, so that what the analysis must find is known.",
        "evaluations": ["long_context", "generation", "cost", "quantisation"],
        "dollars_per_hour": 2.0,
    }


def assembled(study: str, cells: Iterable[tuple[Json, Json, Iterable[int]]]) -> Json:
    """A plan of cells: each with what its specifications have beside those here, and its seeds. The first is the baseline."""
    corpus = {"name": "embedded", "max_bytes": None, "sha256": None}
    training = {"steps": STEPS, "batch_size": 16, "sequence_length": 64, "learning_rate": 0.003}
    parts = {"corpus": corpus, "tokenizer": {"name": "char", "vocab_size": None}, "model": ALONE, "training": training}
    own_cells: list[Json] = []
    runs: Json = {}
    for cell, changes, seeds in cells:
        ids = {}
        for seed in seeds:
            spec = {**parts, **changes, "seed": seed}
            ids[str(seed)] = run = _run_id(f"{cell['variant']}.{cell['tokenizer']}.s{seed}", spec)
            runs[run] = spec
        own_cells.append({**cell, "runs": ids})
    return {
        "schema_version": 3,
        "study": study,
        "title": study,
        "description": "",
        "baseline": own_cells[0]["variant"],
        "evaluations": [],
        "dollars_per_hour": 2.5,
        "tokens": STEPS * TOKENS_PER_STEP * len(runs),
        "cells": own_cells,
        "runs": runs,
        "corpora": {"embedded": corpus},
        "tokenizers": {cell["tokenizer"]: runs[next(iter(cell["runs"].values()))]["tokenizer"] for cell in own_cells},
        "corpus_files": {},
    }


def sketched(study: str, cells: Iterable[tuple[Json, int]]) -> Json:
    """A plan of cells of which their names alone matter, each of a model of its own and with its number of seeds."""
    own = enumerate(cells)
    return assembled(study, [(cell, {"model": {**ALONE, "n_layer": i + 1}}, range(seeds)) for i, (cell, seeds) in own])


def identified(study: Json) -> Json:
    """The same plan with the ids that its specifications give: each ends in the first digits of its sum."""
    ids = {run: _run_id(run.rpartition("-")[0], spec) for run, spec in study["runs"].items()}
    cells = [{**cell, "runs": {seed: ids[run] for seed, run in cell["runs"].items()}} for cell in study["cells"]]
    return {**study, "cells": cells, "runs": {ids[run]: spec for run, spec in study["runs"].items()}}


def _run_id(label: str, spec: Json) -> str:
    return f"{label}-{RunSpec.model_validate(spec).sha256[:10]}"


def of_runs(specs: list[RunSpec]) -> Plan:
    """A plan of these runs, each in a cell of its own."""
    runs = {str(i): spec for i, spec in enumerate(specs)}
    places = {i: {"corpus": spec.corpus.id, "tokenizer": spec.tokenizer.id} for i, spec in runs.items()}
    cells = [{"id": i, "variant": "A", "factors": {}, **places[i], "runs": {own.seed: own.run_id}} for i, own in runs.items()]
    return planned({**plan(1), "baseline": "A", "cells": cells, "runs": {own.run_id: own.model_dump() for own in specs}})


def planned(study: Json) -> Plan:
    """A plan as the stages take it."""
    return Plan.model_validate(study)


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
                write_failure(runs_dir / run_id, "OutOfMemoryError: 40 MiB | asked for")
            elif status != "missing":
                write_run(runs_dir / run_id, run_id, cell, int(seed), study["runs"][run_id], status)


def write_failure(folder: Path, error: str) -> None:
    """A run whose last attempt left no record."""
    write_artefact(folder / FAILURE, Failure(error=error))


def write_attempt(runs: Path, run_id: str, started: datetime) -> Attempt:
    """One at a run, beside the folder of all records, that was killed."""
    about = {"ended": None, "outcome": None, "error": None, "host": "here", "process": 7, "device": "cpu", "gpu": None}
    code = {"versions": {}, "git_commit": None, "modified": None, "code": {}, "resumed_at": None}
    own = Attempt(id=new_id(started), run_id=run_id, started=started, **about, **code, usage=Usage.nothing("it was killed"))
    write_artefact(runs.parent / FOLDER / run_id / f"{own.id}.json", own)
    return own


def write_run(folder: Path, run_id: str, cell: Json, seed: int, spec: Json, status: str = "completed") -> None:
    """One record: spec, curves, weights that nobody may open, manifest, evaluations."""
    variant, tokenizer = cell["variant"], cell["tokenizer"]
    final = bits_per_byte(variant, tokenizer, seed)
    to_loss = math.log(2) * BYTES_PER_TOKEN[tokenizer]
    order = list(EFFECT).index(variant)
    training = RunSpec.model_validate(spec).training
    last = training.steps if status == "completed" else min(120, training.steps)
    tokens_per_second = 9000.0 + 500 * order + 10 * seed
    write_json(folder / SPEC, spec)
    pq.write_table(_curves(variant, final, to_loss, last, seed, status), folder / CURVES)
    (folder / WEIGHTS).write_bytes(b"weights")
    seconds = last * TOKENS_PER_STEP / tokens_per_second
    usage = {"device_seconds": seconds, "peak_memory_bytes": 500_000_000 + 1_000_000 * order}
    about = manifest(
        RunSpec.model_validate(spec),
        run_id=run_id,
        status=status,
        steps_completed=last,
        data_sha256=f"{tokenizer:0<64}"[:64],
        vocab_size=97 if tokenizer == "char" else 1024,
        seconds=seconds,
        tokens=training.tokens(last),
        tokens_per_second=tokens_per_second,
        usage={**usage, "energy_joules": None, "unknown": {"energy_joules": "there is no meter"}},
        n_params=130_000 + 9_000 * order,
        n_params_non_embedding=100_000 + 9_000 * order,
        state_size=4096 * (order + 1),
        flops_per_token=250_000 + 30_000 * order,
        files=file_sums(folder, (SPEC, CURVES, WEIGHTS)),
    )
    write_artefact(folder / MANIFEST, about)
    values = {"loss": final * to_loss, "bits_per_byte": final, "perplexity": math.exp(final * to_loss)}
    measured = {"tokens": round(8192 / BYTES_PER_TOKEN[tokenizer]), "bytes": 8192, "from_byte": 3, "unknown": 0}
    held_out = [
        *(of(f"<split>/{name}", value, split="val") for name, value in (*values.items(), *measured.items())),
        *(of("<split>/by_position", final * to_loss + 2.0**-i, split="val", context=2**i) for i in range(7)),
        *(of(f"<split>/{name}", v, split="test") for name, v in {**values, **measured, "bits_per_byte": final + 0.02}.items()),
        *(of("<split>/by_position", final * to_loss + 2.0**-i, split="test", context=2**i) for i in range(7)),
    ]
    lines = {"uniform": 6.6, "unigram": 4.4, "bigram": 3.4, "trigram": 2.8}
    held_out += [of("ngram/<order>", bits, order=order) for order, bits in lines.items()]
    for name, measurements in {"held_out": held_out, **further(final * to_loss, variant)}.items():
        write_evaluation(folder, name, measurements if status == "completed" else [])


def manifest(spec: RunSpec, **known: Any) -> Manifest:
    """Of a run that completed on a CPU in half a minute. known: what is to be different."""
    document = {
        "run_id": spec.run_id,
        "status": "completed",
        "steps_completed": spec.training.steps,
        "watch": spec.training.watch,
        "data_sha256": None,
        "vocab_size": None,
        "code": {part: f"{part:0<16}"[:16] for part in ("seeds", "spec", "data", "ops", "models", "training")},
        "versions": {"python": "3.11.2", "torch": "2.13.0"},
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "modified": [],
        "attempts": ["20260921T141320Z-0123456789abcdef"],
        "resumed_from": [],
        "device": "cpu (Test CPU)",
        "gpu": None,
        "threads": 1,
        "engine": "eager",
        "compiled": False,
        "processes": 1,
        "backend": {"wkv6 32x32": "chunked"},
        "stacked": 1,
        "cohorts": 1,
        "started": "2026-09-21T14:13:20+00:00",
        "finished": "2026-09-21T14:13:50+00:00",
        "seconds": 30.0,
        "tokens": spec.tokens,
        "tokens_per_second": 1000.0,
        "usage": Usage.nothing("it was not measured"),
        "n_params": 1000,
        "n_params_non_embedding": 900,
        "state_size": 64,
        "flops_per_token": 2000,
        "files": {},
    }
    return Manifest.model_validate({**document, **known})


def write_current(folder: Path, spec: RunSpec) -> Path:
    """A record that this version of the code would not make again, of a run that was evaluated and probed; what its curves and
    weights hold does not matter.
    """
    write(folder / SPEC, spec.model_dump(mode="json"))
    for name in (CURVES, WEIGHTS):
        (folder / name).write_bytes(name.encode())
    sums = file_sums(folder, (SPEC, CURVES, WEIGHTS))
    write_artefact(folder / MANIFEST, manifest(spec, code=code_of_training(spec), files=sums))
    weights = file_sha256(folder / WEIGHTS)
    held_out = evaluation("held_out", spec.run_id, [of("<split>/loss", 2.5, split="val")], weights)
    code = code_of_evaluation(spec, "held_out")
    write_artefact(evaluation_file(folder, "held_out"), held_out.model_copy(update={"code": code}))
    about = {"run_id": spec.run_id, "weights": weights, "device": None, "measured": None, "measurements": []}
    write_artefact(folder / PROBES, Probes(code=code_of_probes(spec), **about))
    return folder


def of(metric: str, value: float | None, **axes: Value) -> Measurement:
    """A measurement, by the name of its metric."""
    return Measurement(metric, axes, value)


def evaluation(name: str, run_id: str, measurements: list[Measurement], weights: str | None = None) -> Evaluation:
    """Of some weights, or nobody knows which."""
    about = {"run_id": run_id, "weights": weights, "device": "cpu (Test CPU)", "code": {"evals": "e" * 16}, "settings": {}}
    return Evaluation(name=name, **about, measured=MEASURED, measurements=measurements)


def write_evaluation(folder: Path, name: str, measurements: list[Measurement]) -> None:
    """Of the weights in a record."""
    write_artefact(evaluation_file(folder, name), evaluation(name, folder.name, measurements, file_sha256(folder / WEIGHTS)))


def write_probes(folder: Path, measures: dict[str, Json]) -> None:
    """Of the weights in a record. measures: by its written name the value of a network, and those of its layers."""
    about = {"run_id": folder.name, "weights": file_sha256(folder / WEIGHTS), "device": "cpu (Test CPU)"}
    found = []
    for name, own in measures.items():
        metric, axes = read_name(name)
        found.append(of(metric.name, own["value"], **axes))
        found += [of(metric.name, value, **axes, layer=int(layer)) for layer, value in own["layers"].items()]
    write_artefact(folder / PROBES, Probes(**about, code={"probes": "p" * 16}, measured=MEASURED, measurements=found))


def further(loss: float, variant: str) -> dict[str, list[Measurement]]:
    """What is measured beside the held-out losses: each doubling of the context halves a loss's distance to its end."""
    grows = variant == "GPT-2"
    contexts = []
    for i in range(7 if grows else 8):
        values = {"loss": loss + 0.5**i, "shuffled_loss": loss + 1.0, "gain": 1 - 0.5**i, "gain_se": 0.01}
        values["perplexity_ratio"] = math.exp(0.5**i - 0.5**3)
        contexts += [of(f"context/{name}", value, context=8 * 2**i) for name, value in values.items()]
    contexts += [of("context/useful_window", 256), of("context/held_to", 16.0), of("context/slope", -0.29)]
    lengths = []
    for n in (64, 256, 1024):
        lengths.append(of("generation/tokens_per_second", 1e5 / n if grows else 900.0, length=n))
        lengths.append(of("generation/state_bytes", 512 * n if grows else 40_000, length=n))
    costs = []
    for n in (64, 256):
        for batch in (1, 8):
            cell = {
                "flops_per_token": 250_000,
                "state_size": 4096,
                "forward_tokens_per_second": 3000.0 * batch,
                "forward_peak_bytes": 2**20 * n * batch,
                "training_tokens_per_second": 1000.0 * batch,
                "training_peak_bytes": 2**22 * n * batch,
            }
            costs += [of(f"cost/{name}/batch_<batch>", value, batch=batch, length=n) for name, value in cell.items()]
    rounded = {"difference": 0.002, "se": 0.001, "perplexity_ratio": math.exp(0.002)}
    cases = [of(f"quantisation/<rounding>/{name}", value, rounding="state/mamba2/int8") for name, value in rounded.items()]
    return {
        "long_context": contexts,
        "recall": recalled(),
        "generation": lengths,
        "cost": costs,
        "quantisation": cases if variant == "GF" else [],
    }


def recalled(task: str = "mqar") -> list[Measurement]:
    """The recall of a model that answers three of four questions, and fewer the more pairs there are."""

    def share(what: str, value: float, lower: float = 0.7, upper: float = 0.8, n: int = 400, **axes: Value) -> Measurement:
        return Measurement(f"recall/<task>/{what}", {"task": task, **axes}, value, lower, upper, n)

    return [
        share("accuracy", 0.75),
        share("episodes", 0.5),
        share("control", 0.02, 0.01, 0.04),
        of("recall/<task>/chance", 1 / 64, task=task),
        *(share("by_items", 1 - n / 16, 0.95 - n / 16, 1.05 - n / 16, 100, items=n) for n in (2, 4, 8)),
        *(share("by_distance", 0.75, distance=n) for n in (4, 8, 16)),
        *(share("by_length", 0.75, length=n) for n in (64,)),
    ]


def write(path: Path, value: Any) -> None:
    """Any JSON, also such as no stage writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a document, whose sum is then that of what it has."""
    write_sealed(path, {**json.loads(path.read_text()), **changes})


def edit_usage(run: Path, **changes: Any) -> None:
    """Change what a run took of its device; with null, for no reason that a test looks at."""
    usage = {**json.loads((run / MANIFEST).read_text())["usage"], **changes}
    measures = ("device_seconds", "energy_joules", "peak_memory_bytes")
    unknown = {name: usage["unknown"].get(name, "lost") for name in measures if usage[name] is None}
    edit(run / MANIFEST, usage={**usage, "unknown": unknown})


def value(run: Path, metric: str, name: str = "held_out") -> float:
    """What an evaluation of a record measured, by its written name."""
    found = {own.name: own.value for own in read_evaluation(run, name).measurements if own.at is None}
    known = found[metric]
    return math.nan if known is None else known


def edit_value(run: Path, name: str = "held_out", **changes: float | None) -> None:
    """Change, by written names, what an evaluation of a record measured."""
    evaluation = read_evaluation(run, name)
    edited = [replace(own, value=changes[own.name]) if own.name in changes else own for own in evaluation.measurements]
    write_artefact(evaluation_file(run, name), evaluation.model_copy(update={"measurements": edited}))


def without(run: Path, metric: str, name: str = "held_out") -> None:
    """Take the measurements of a metric out of an evaluation of a record."""
    evaluation = read_evaluation(run, name)
    kept = [own for own in evaluation.measurements if own.metric != metric]
    write_artefact(evaluation_file(run, name), evaluation.model_copy(update={"measurements": kept}))


def edit_val(run: Path, **changes: float | None) -> None:
    """Change numbers of the validation split."""
    edit_value(run, **{f"val/{name}": own for name, own in changes.items()})


def shift(run: Path, by: float) -> None:
    """Add to the bits per byte of the validation split."""
    edit_val(run, bits_per_byte=value(run, "val/bits_per_byte") + by)


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
