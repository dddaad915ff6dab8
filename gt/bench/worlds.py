"""Several GPUs of one host, in two ways: packs, each with a GPU and a share of the cohorts, and one run of shared batches.

What is compared are the bits of weights in the first case, and the losses of each step in the second.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gt.bench.candidates import HYBRID, QUICK, TRANSFORMER, Candidate, needing, specifications
from gt.bench.events import Json
from gt.bench.measure import in_a_line
from gt.bench.noise import noise_for
from gt.bench.trainers import Cohorts
from gt.devices import VISIBLE
from gt.documents import merge
from gt.measuring import end_with_parent
from gt.spec import RunSpec
from gt.training.cohort import Cohort
from gt.training.distributed import join
from gt.training.packs import STACK

PACKED, SMALL_PACK = 8, 2  # cohorts of each model
SCALE, LARGE = "scale.yaml", "30M"
# Sequences in a batch: the study's, and as many as fill several GPUs.
BATCHES = (32, 256)
# Steps before the clock runs, and on it.
WARM_UP, TIMED = 128, 256
FEW = (2, 4)

_packed: Any = None  # the cohorts of this process


def worlds(study: Path, gpus: Sequence[str], device: torch.device, quick: bool) -> Iterator[Json]:
    """A row for each comparison and number of processes, as soon as it is measured. ConfigError where a study lacks a variant.

    gpus: as CUDA_VISIBLE_DEVICES names them; on a CPU there is none, and two processes stand in for two of them.
    """
    counts = [n for n in (1, 2, 4, 8) if n <= (len(gpus) or 2)]
    steps = FEW if quick else (WARM_UP, TIMED)
    small = QUICK if quick else {}
    for part in (packs, shared):
        yield from part(study, list(gpus), device, counts, steps, small)


def packs(
    study: Path, gpus: list[str], device: torch.device, counts: list[int], steps: tuple[int, int], small: Json
) -> Iterator[Json]:
    """Cohorts of five seeds, divided over processes that each have a GPU. `same_bits`: as the weights of one process."""
    specs = specifications(study, small, {"training": {**_schedule(steps), "log_every": 10**9}})
    for model in (HYBRID, TRANSFORMER):
        with needing("worlds", study, specs):
            stacked, cohorts = (2, SMALL_PACK) if small else (STACK["cuda"], PACKED)
            pack = Candidate(model, specs[model], stacked, cohorts)
        first: tuple[float, list[str]] | None = None
        for n in counts:
            row: Json = {"part": "packs", "name": f"{model}, {cohorts} x {stacked}", "processes": n}
            try:
                seconds, sums = _in_processes(pack, gpus[:n] or ["-1"] * n, device, steps)
            except Exception as error:
                yield row | {"error": in_a_line(error)}
                continue
            first = first or (seconds, sums)
            row |= {"seconds": seconds, "speed_up": first[0] / seconds, "same_bits": sums == first[1], "weights_sha256": sums}
            yield row


def _schedule(steps: tuple[int, int]) -> Json:
    """Of a run that is stopped half-way: its weights have to have moved, and its end would be a validation."""
    return {"steps": 2 * sum(steps), "evaluate_every": 10**9}


def _in_processes(pack: Candidate, gpus: list[str], device: torch.device, steps: tuple[int, int]) -> tuple[float, list[str]]:
    """Seconds of the timed steps in the slowest process, and a sum of each run's weights in the pack's order."""
    spawn = multiprocessing.get_context("spawn")
    threads = torch.get_num_threads()
    pools = [ProcessPoolExecutor(1, spawn, _begin, (gpu, threads)) for gpu in gpus]
    try:
        own = {**pack.sent(), "cohorts": pack.cohorts // len(pools)}
        ready = [pool.submit(_build, own, i, device.type, steps[0]) for i, pool in enumerate(pools)]
        _results(ready)
        seconds = _results([pool.submit(_take, steps[1]) for pool in pools])
        return max(seconds), [text for sums in _results([pool.submit(_digests) for pool in pools]) for text in sums]
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)


def _results(futures: list[Future[Any]]) -> list[Any]:
    return [future.result() for future in futures]


def _begin(gpu: str, threads: int) -> None:
    end_with_parent()
    os.environ[VISIBLE] = gpu
    torch.set_num_threads(threads)


def _build(sent: Json, share: int, device: str, steps: int) -> None:
    """The share of a pack that is this process's, which has taken some steps."""
    global _packed
    pack = Candidate.received(sent)
    _packed = Cohorts(pack, noise_for(pack.spec), torch.device(device), first_seed=share * pack.stacked * pack.cohorts)
    _packed.take(steps)


def _take(steps: int) -> float:
    begin = time.perf_counter()
    _packed.take(steps)
    return time.perf_counter() - begin


def _digests() -> list[str]:
    return digests(_packed)


def digests(own: Cohorts) -> list[str]:
    """A sum of the weights of each run."""
    return [_digest(cohort.parameters(run)) for cohort in own.cohorts for run in range(len(cohort.specs))]


def _digest(weights: dict[str, Tensor]) -> str:
    found = sha256()
    for weight in weights.values():
        found.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def shared(
    study: Path, gpus: list[str], device: torch.device, counts: list[int], steps: tuple[int, int], small: Json
) -> Iterator[Json]:
    """GF-MH of 30M parameters, a share of each batch a process, by torchrun. `loss_difference`: the largest from one process's,
    of any step, in nats.
    """
    scale = study.parent / SCALE
    specs = specifications(scale, small, {"training": {**_schedule(steps), "log_every": 1}}, factors={"scale": LARGE})
    with needing("worlds", scale, specs):
        spec = specs[HYBRID]
    for batch in (spec.training.batch_size,) if small else BATCHES:
        own = RunSpec.model_validate(merge(spec.model_dump(), {"training": {"batch_size": batch}}))
        first: Json | None = None
        for n in counts:
            row: Json = {"part": "data parallel", "name": f"{HYBRID} {LARGE}, batches of {batch}", "processes": n}
            try:
                found = _by_torchrun(own, n, gpus, device, steps)
            except Exception as error:
                yield row | {"error": in_a_line(error)}
                continue
            first = first or found
            difference = max(abs(a - b) for a, b in zip(found["losses"], first["losses"], strict=True))
            row |= {**found, "ms_a_step": 1e3 * found["seconds"] / steps[1]}
            yield row | {"speed_up": first["seconds"] / found["seconds"], "loss_difference": difference}


def _by_torchrun(spec: RunSpec, n: int, gpus: list[str], device: torch.device, steps: tuple[int, int]) -> Json:
    """Seconds of the timed steps, and the loss of every step."""
    with tempfile.TemporaryDirectory() as folder:
        asked, said = Path(folder) / "asked.json", Path(folder) / "said.json"
        asked.write_text(json.dumps({"spec": spec.model_dump(mode="json"), "device": device.type, "steps": steps}))
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}"]
        visible = {VISIBLE: ",".join(gpus[:n])} if gpus else {}
        command = [*launcher, "-m", "gt.bench.worlds", str(asked), str(said)]
        done = subprocess.run(command, env={**os.environ, **visible}, capture_output=True, text=True, check=False)
        if done.returncode:
            reasons = [line for line in done.stderr.splitlines() if "Error" in line]
            raise RuntimeError(reasons[0] if reasons else f"torchrun ended with exit code {done.returncode}")
        return json.loads(said.read_text())


def _share(asked: Path, said: Path) -> None:
    """What torchrun runs: one of the processes of a run."""
    given = json.loads(asked.read_text())
    rank = os.environ["LOCAL_RANK"]
    device = torch.device(f"cuda:{rank}" if given["device"] == "cuda" else "cpu")
    spec, (warm_up, timed) = RunSpec.model_validate(given["spec"]), given["steps"]
    world = join(device)
    run = Cohort([spec], noise_for(spec), device, world=world)
    losses: list[float] = []

    def take(steps: int) -> float:
        begin, stop = time.perf_counter(), run.step + steps
        while run.step < stop:
            run.advance(stop)
            losses.extend(row["train/loss"] for row in run.collect() if "train/loss" in row)
        return time.perf_counter() - begin

    take(warm_up)
    seconds = take(timed)
    if world.rank == 0:
        said.write_text(json.dumps({"seconds": seconds, "losses": losses}))
    if world.size > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    _share(*map(Path, sys.argv[1:]))
