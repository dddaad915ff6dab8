"""How long a process needs to its first finished step: with empty caches of compiled code, and again with what that left."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from gt.bench.candidates import Candidate
from gt.bench.measure import in_a_line
from gt.bench.peers.apart import Apart
from gt.bench.trainers import trainer

CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR")


def starts(candidates: list[Candidate], device: torch.device) -> list[dict[str, Any]]:
    """Cold and warm start of each candidate, each in a process of its own.

    `cold_seconds` and `warm_seconds` count from the start of the process, imports included; `cold_training_seconds` and
    `warm_training_seconds` from the construction of the cohorts.
    """
    results: list[dict[str, Any]] = []
    for candidate in candidates:
        result: dict[str, Any] = {"name": candidate.name, "stacked": candidate.stacked, "cohorts": candidate.cohorts}
        try:
            with tempfile.TemporaryDirectory() as folder:
                for kind in ("cold", "warm"):
                    begin = time.perf_counter()
                    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                        result[f"{kind}_training_seconds"] = process.submit(
                            _first_step, folder, candidate.sent(), device
                        ).result()
                        result[f"{kind}_seconds"] = time.perf_counter() - begin
        except Exception as error:
            result["error"] = in_a_line(error)
        results.append(result)
    return results


def _first_step(caches: str, sent: dict[str, Any], device: torch.device) -> float:
    os.environ |= {name: str(Path(caches) / name.lower()) for name in CACHES}
    begin = time.perf_counter()
    own = trainer(Candidate.received(sent), device)
    if isinstance(own, Apart):
        own.close()
        return own.start_seconds
    own.take(1)
    return time.perf_counter() - begin
