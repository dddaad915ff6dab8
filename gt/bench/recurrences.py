"""The recurrences alone, forward and backward, by backend, length and head size: what the choice of a backend rests on."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gt.bench.measure import in_a_line
from gt.ops import selective, ssd, wkv6  # noqa: F401 -- they enter their backends
from gt.ops.backend import IMPLEMENTATIONS
from gt.training.compiled import forget

BATCH, D_MODEL, D_STATE = 32, 128, 64
# Those of the studies first: a measurement that is cut short has them.
LENGTHS, HEAD_SIZES = (64, 256, 1024), (32, 64, 16)
CALLS = 20  # in a round
OPERATIONS = ("wkv6", "ssd", "selective")
OURS = ("chunked", "chunks", "positions")


def inputs(op: str, time: int, head_size: int, device: torch.device, batch: int = BATCH) -> list[Tensor]:
    """What a mixer in bfloat16 hands to its recurrence: activations in bfloat16 where it leaves them so, decays in float32."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    heads, half = D_MODEL // head_size, torch.bfloat16
    if op == "wkv6":
        shape = (batch, time, heads, head_size)
        r, k, v = (draw(*shape, dtype=half) for _ in range(3))
        return [r, k, v, -(draw(*shape) - 3).exp(), draw(heads, head_size)]
    if op == "ssd":
        heads = 2 * D_MODEL // head_size
        x, dt = draw(batch, time, heads, head_size, dtype=half), F.softplus(draw(batch, time, heads) - 4)
        B, C = (draw(batch, time, 1, D_STATE, dtype=half) for _ in range(2))
        return [x, dt, -draw(heads).exp(), B, C, draw(heads)]
    k, log_w = draw(batch, time, D_MODEL), -(draw(batch, time, D_MODEL) - 3).exp()
    return [k, log_w, *(draw(batch, time, head_size) for _ in range(2))]


def recurrences(device: torch.device, rounds: int, quick: bool) -> Iterator[dict[str, Any]]:
    """One row an op, length, head size and backend, with microseconds a call; backends take turns.

    On a GPU a call is a replay of a CUDA graph, as it is in training, and what is ours is compiled, as there.
    """
    shapes = [(32, 16)] if quick else [(t, h) for t, h in itertools.product(LENGTHS, HEAD_SIZES)]
    for (length, head_size), op in itertools.product(shapes, OPERATIONS):
        forget()  # the compiler gives up on a function after eight shapes
        given = [x.requires_grad_() for x in inputs(op, length, head_size, device, batch=2 if quick else BATCH)]
        shape = {"op": op, "time": length, "head_size": head_size}
        named = f"{op}, {length} tokens, heads of {head_size}"
        calls: dict[str, Callable[[], None]] = {}
        for backend, load in IMPLEMENTATIONS[op].items():
            try:
                calls[backend] = _call(load(), given, device, compiled=backend in OURS)
            except Exception as error:  # a package that is missing, a shape that is not served
                yield {**shape, "backend": backend, "name": f"{named}, {backend}", "error": in_a_line(error)}
        seconds: dict[str, list[float]] = {backend: [] for backend in calls}
        for _ in range(rounds):
            for backend, call in calls.items():
                seconds[backend].append(_seconds(call, device))
        for backend, measured in seconds.items():
            low, median, high = 1e6 * np.percentile(measured, [25, 50, 75])
            yield {**shape, "backend": backend, "name": f"{named}, {backend}", "us": median, "us_quartiles": [low, high]}


def _call(function: Callable[..., Any], given: list[Tensor], device: torch.device, compiled: bool) -> Callable[[], None]:
    """CALLS times forward and backward, as something that can be called again and again."""
    if device.type == "cuda" and compiled:
        function = torch.compile(function, dynamic=False)

    dy = torch.ones_like(function(*given)[0])

    def once() -> None:
        torch.autograd.grad(function(*given)[0], given, dy)

    def many() -> None:
        for _ in range(CALLS):
            once()

    if device.type == "cpu":
        return many
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        for _ in range(2):
            once()
        torch.cuda.synchronize(device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            many()
    return graph.replay


def _seconds(call: Callable[[], None], device: torch.device) -> float:
    """Of one of the CALLS."""
    begin = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - begin) / CALLS
