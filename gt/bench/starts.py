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
from gt.bench.trainers import trainer

CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


def starts(candidates: list[Candidate], device: torch.device) -> list[dict[str, Any]]:
    """Cold and warm start of each candidate, each in a process of its own.

    `cold_seconds` and `warm_seconds` count from the start of the process, imports included; `cold_training_seconds` and
    `warm_training_seconds` from the construction of the cohorts.
    """
    results: list[dict[str, Any]] = []
    for candidate in candidates:
        result: dict[str, Any] = {"name": candidate.name, "stacked": candidate.stacked, "cohorts": candidate.cohorts}
        with tempfile.TemporaryDirectory() as folder:
            os.environ |= {name: str(Path(folder) / name.lower()) for name in CACHES}
            for kind in ("cold", "warm"):
                begin = time.perf_counter()
                try:
                    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                        result[f"{kind}_training_seconds"] = process.submit(_first_step, candidate, device).result()
                        result[f"{kind}_seconds"] = time.perf_counter() - begin
                except Exception as error:
                    result["error"] = in_a_line(error)
        results.append(result)
    for name in CACHES:
        del os.environ[name]
    return results


def _first_step(candidate: Candidate, device: torch.device) -> float:
    begin = time.perf_counter()
    trainer(candidate, device).take(1)
    return time.perf_counter() - begin
