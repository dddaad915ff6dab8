"""A rival in a process of its own: its caches are empty, its memory ends with it, and nothing that it does to the state of a
library reaches ours. (torch's compiler, asked for CUDA graphs, frees workspaces of cuBLAS that graphs of others still use.)
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from gt.bench.candidates import Candidate
from gt.bench.events import Json
from gt.data.tokens import Tokens
from gt.measuring import end_with_parent

# JAX would take three quarters of the GPU's memory at once; others are on it.
SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
_program: Any = None  # that of this process


class Apart:
    """A candidate's program, asked through a pipe. `start_seconds` are until its first call is done, without imports."""

    def __init__(self, candidate: Candidate, device: torch.device) -> None:
        self.process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        try:
            about = self.process.submit(_start, candidate.sent(), device).result()
        except BaseException:
            self.close()
            raise
        self.stride, self.parameters = about["stride"], about["parameters"]
        self.peak_memory, self.start_seconds = about["peak_memory"], about["start_seconds"]

    def take(self, steps: int) -> None:
        """Take steps, and wait until they are done."""
        self.process.submit(_take, steps).result()

    def kernels(self) -> Json:
        """What a step runs on the GPU."""
        return self.process.submit(_kernels).result()

    def close(self) -> None:
        """End the process."""
        self.process.shutdown(cancel_futures=True)


def _start(sent: dict[str, Any], device: torch.device) -> dict[str, Any]:
    global _program
    end_with_parent()
    os.environ |= SHARED
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)  # ours, for the sake of bits
    from gt.bench.noise import noise_for

    candidate = Candidate.received(sent)
    tokens = noise_for(candidate.spec)
    program = _kind(candidate)
    begin = time.perf_counter()
    _program = program(candidate, tokens, device)
    _program.take(_program.stride)
    about = {name: getattr(_program, name) for name in ("stride", "parameters", "peak_memory")}
    return {**about, "start_seconds": time.perf_counter() - begin}


def _kind(candidate: Candidate) -> Callable[[Candidate, Tokens, torch.device], Any]:
    """Of a rival's program. ImportError where it is not installed."""
    rival = candidate.rival or ""
    if rival.startswith("JAX"):
        from gt.bench.peers.jax_program import Program

        return Program
    if rival.startswith("transformers"):
        from gt.bench.peers.huggingface import transformers_loop

        return transformers_loop
    from gt.bench.peers.fla_layers import fla_loop

    return fla_loop


def _take(steps: int) -> None:
    _program.take(steps)


def _kernels() -> Json:
    return _program.kernels()
