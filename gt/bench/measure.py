"""The measuring loop: candidates take turns, round after round, so that what drifts in the machine meets all alike."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from gt.bench.candidates import Candidate, Rival
from gt.bench.events import Json, summary
from gt.bench.noise import vocabulary
from gt.bench.peers.apart import Apart
from gt.bench.trainers import Cohorts, Trainer, trainer
from gt.models.lm import Audit, count
from gt.progress import progress
from gt.training.compiled import forget
from gt.training.plan import HORIZON

ROUND_SECONDS = 0.4
# Dense bfloat16 FLOPs a second, from NVIDIA's data sheets.
PEAKS = {
    "NVIDIA H200": 989.4e12,
    "NVIDIA H100 80GB HBM3": 989.4e12,
    "NVIDIA H100 NVL": 835.5e12,
    "NVIDIA H100 PCIe": 756.5e12,
    "NVIDIA A100-SXM4-80GB": 311.9e12,
    "NVIDIA A100-SXM4-40GB": 311.9e12,
    "NVIDIA L4": 121.0e12,
    "NVIDIA GeForce RTX 4090": 165.2e12,
}


@dataclass
class Entrant:
    """A candidate that has started."""

    candidate: Candidate
    counts: Audit
    trainer: Trainer
    start_seconds: float  # from nothing to the first finished step, with compilation and capture
    peak_memory: int | None  # bytes allocated on the GPU over what was there before
    steps: int = 1  # in a round
    seconds: list[float] = field(default_factory=list)  # a step, of each round


def compare(candidates: list[Candidate], device: torch.device, rounds: int, seconds: float = math.inf) -> list[Json]:
    """Measure candidates against each other. One that cannot run is in the result with its error.

    seconds: in which candidates are started, so that those which are can still be measured: one is if there is time for as
    long a start as another of its model and program had.
    """
    entrants: list[Entrant | Json] = []
    longest: dict[tuple[str, Rival | None], float] = {}
    begin = time.perf_counter()
    forget()
    for candidate in progress(candidates, "starting", "candidate"):
        own_begin, run = time.perf_counter(), (candidate.spec.run_id, candidate.rival)
        if own_begin - begin + longest.get(run, 0.0) > seconds:
            entrants.append({"name": candidate.name, "error": "not started: no time was left"})
            continue
        try:
            entrants.append(_start(candidate, device))
        except Exception as error:  # no memory, a package that is missing, a kernel that does not compile
            entrants.append({"name": candidate.name, "error": in_a_line(error)})
        longest[run] = max(longest.get(run, 0.0), time.perf_counter() - own_begin)
    running = [entrant for entrant in entrants if isinstance(entrant, Entrant)]
    for _ in progress(range(rounds), "measuring", "round"):
        for entrant in running:
            entrant.seconds.append(_clock(lambda entrant=entrant: entrant.trainer.take(entrant.steps)) / entrant.steps)  # type: ignore[misc]
    results = [_result(entrant, device) if isinstance(entrant, Entrant) else entrant for entrant in entrants]
    for entrant in running:
        if isinstance(entrant.trainer, Apart):
            entrant.trainer.close()
    del entrants, running
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()  # other processes measure there too
    return results


def _start(candidate: Candidate, device: torch.device) -> Entrant:
    gpu = device.type == "cuda"
    before = torch.cuda.memory_allocated(device) if gpu else 0
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
    begin = time.perf_counter()
    own = trainer(candidate, device)
    counts = count(candidate.spec.model, vocabulary(candidate.spec), candidate.spec.training.sequence_length)
    if own.parameters != counts.n_params:
        raise ValueError(f"it has {own.parameters} parameters, and the model {counts.n_params}")
    if isinstance(own, Apart):
        entrant = Entrant(candidate, counts, own, own.start_seconds, own.peak_memory)
    else:
        own.take(1)
        entrant = Entrant(candidate, counts, own, time.perf_counter() - begin, None)
        if gpu:
            entrant.peak_memory = torch.cuda.max_memory_allocated(device) - before
    step = min(_clock(lambda: own.take(own.stride)) for _ in range(3)) / own.stride
    entrant.steps = int(np.clip(2 ** np.ceil(np.log2(ROUND_SECONDS / step)), own.stride, HORIZON))
    if isinstance(own, Cohorts):
        own.take(HORIZON - 4 if entrant.steps == HORIZON else 1)  # so that every round has one refill of the plan
    return entrant


def _result(entrant: Entrant, device: torch.device) -> Json:
    """Everything that was measured of a candidate; null where the device cannot tell."""
    candidate, spec = entrant.candidate, entrant.candidate.spec
    runs = candidate.stacked * candidate.cohorts
    low, median, high = np.percentile(entrant.seconds, [25, 50, 75])
    tokens = runs * spec.training.batch_size * spec.training.sequence_length
    flops = entrant.counts.flops_per_token
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    result: Json = {
        "name": candidate.name,
        "rival": candidate.rival,
        "run": spec.run_id,
        "parameters": entrant.trainer.parameters,
        "stacked": candidate.stacked,
        "cohorts": candidate.cohorts,
        "ms_a_step": 1e3 * median,
        "ms_a_step_quartiles": [1e3 * low, 1e3 * high],
        "ms_a_step_of_rounds": [1e3 * s for s in entrant.seconds],
        "steps_a_round": entrant.steps,
        "run_steps_per_second": runs / median,
        "tokens_per_second": tokens / median,
        "flops_per_token": flops,
        "model_flops_utilisation": utilisation(flops, tokens / median, device_name),
        "peak_memory_bytes": entrant.peak_memory,
        "start_seconds": entrant.start_seconds,
    }
    if isinstance(entrant.trainer, Cohorts):
        cohorts = entrant.trainer
        first = cohorts.cohorts[0]
        result |= {"engine": first.engine.name, "compiled": first.compiled, "backend": candidate.backend}
        result["validation_ms"] = 1e3 * min(_clock(cohorts.validate) for _ in range(3))
    if device.type == "cuda":
        result |= _kernels(entrant)
    return result


def _kernels(entrant: Entrant) -> Json:
    """What a step runs. Of a graph also one by one: kernels that run at once take longer each."""
    own, candidate = entrant.trainer, entrant.candidate
    try:
        found = {"step": own.kernels()}
        if (
            isinstance(own, Cohorts) and candidate.engine is None and candidate.backend is None
        ):  # others would be compiled again
            found["uncaptured_step"] = summary(own.events(captured=False))
    except Exception as error:  # a profiler that is missing or that another holds
        return {"step": None, "no_step": in_a_line(error)}
    return found


def with_leads(rows: list[Json]) -> list[Json]:
    """The same rows, with how many times as fast ours is beside each rival's, where both ran."""
    ours = {(row["run"], row["stacked"]): row["tokens_per_second"] for row in rows if _ran(row) and row["rival"] is None}
    leads = [ours.get((row["run"], row["stacked"])) if _ran(row) and row["rival"] else None for row in rows]
    return [
        row | ({"ours_over_it": lead / row["tokens_per_second"]} if lead else {}) for row, lead in zip(rows, leads, strict=True)
    ]


def _ran(row: Json) -> bool:
    return "tokens_per_second" in row


def utilisation(flops_per_token: int, tokens_per_second: float, device_name: str) -> float | None:
    """The share of the device's peak: forward and backward are three times the forward pass. None for an unknown device."""
    peak = PEAKS.get(device_name)
    return 3 * flops_per_token * tokens_per_second / peak if peak else None


def in_a_line(error: Exception) -> str:
    """An error as a table has room for it."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _clock(function: Callable[[], None]) -> float:
    """Seconds that a function takes which waits for the device."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin
