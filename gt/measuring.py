"""Evaluating and probing trained records, in this process or in some of their own while others are still trained."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from gt import stage
from gt.errors import ConfigError
from gt.evals.evaluation import evaluate
from gt.metering import Meter, metered
from gt.probes.probe import probe

Seconds = dict[str, float]
# Takes what `measure` takes. Gives what waits for its result, and raises what it raised.
Hand = Callable[[Path, Path, torch.device, Sequence[str], bool], Callable[[], Seconds]]


def measure(
    record: Path, data: Path, device: torch.device, names: Sequence[str], probed: bool, devices: Path | None = None
) -> Seconds:
    """Evaluate a trained record, and probe it, if this version of the code has not yet. Returns how long each took.

    names: of the evaluations. probed: whether it is to be probed at all. devices: folder of the logs of GPUs; a training beside
    it has only its share of one.
    """
    start = time.perf_counter()
    if not stage.is_evaluated(record, names):
        with metered(f"evaluate {record.name}", device, devices):
            evaluate(record, data, device, names)
    evaluated = time.perf_counter()
    if probed and not stage.is_probed(record):
        with metered(f"probe {record.name}", device, devices):
            probe(record, data, device)
    return {"evaluate": evaluated - start, "probe": time.perf_counter() - evaluated}


@contextmanager
def measuring(jobs: int, device: torch.device, threads: int, devices: Path | None = None) -> Iterator[Hand]:
    """What takes records to be measured: by so many processes at once, or, with one job, by this one when it is waited for.

    A small model's measurements are more of launches than of computation, so that several share a GPU well. ConfigError for a
    number of jobs below 1.
    """
    if jobs < 1:
        raise ConfigError(f"--measuring {jobs} is not allowed. Allowed: 1 or more.")
    own = partial(measure, devices=devices)
    here = partial(partial, own)
    if jobs == 1:
        yield here
        return
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (device, threads, devices))

    def beside(*record: Any) -> Callable[[], Seconds]:
        try:
            return pool.submit(own, *record).result
        except BrokenExecutor:  # one of them was killed
            return here(*record)

    try:
        for _ in range(jobs):
            pool.submit(int)  # a process is started with its first task; now, while others are trained
        yield beside
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(device: torch.device, threads: int, devices: Path | None) -> None:
    end_with_parent()
    torch.set_num_threads(threads)
    Meter.of(device, devices)
    torch.zeros(1, device=device)  # CUDA takes seconds to begin


def end_with_parent() -> None:
    """End this process when its parent does: one of a pool waits for its next task for ever where its parent was killed."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()
