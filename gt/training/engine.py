"""How a step is run: operation by operation, or as one CUDA graph.

A small model leaves a GPU waiting for its next kernel. A graph launches all kernels of a step at once; they are the same
kernels, and each comes after those that it needs, so both engines give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

Name = Literal["eager", "graph"]
# Before a capture everything lazy (handles, workspaces, compiled kernels) has to have happened.
REHEARSALS = 2


class Engine:
    """Runs functions that take and return nothing and touch tensors on one device alone.

    name: "graph" captures each function at its first call and replays it from then on, on a CUDA stream of its own; "eager"
    runs it as it is. None: a graph where there is a GPU.
    """

    def __init__(self, device: torch.device, name: Name | None = None) -> None:
        self.name: Name = name or ("graph" if device.type == "cuda" else "eager")
        self.graphs: dict[str, torch.cuda.CUDAGraph] = {}
        self.queue = torch.cuda.Stream(device) if device.type == "cuda" else None
        # They never run at once, so they can use the same memory for what lies between their kernels.
        self.pool = torch.cuda.graph_pool_handle() if self.name == "graph" else None

    def stream(self) -> AbstractContextManager[object]:
        """The context in which everything that belongs to these functions is put in order."""
        return torch.cuda.stream(self.queue) if self.queue is not None else nullcontext()

    def __call__(self, name: str, function: Callable[[], None], state: Iterable[Tensor]) -> None:
        """Run `function`, known by `name`. state: the tensors that it changes and that a rehearsal must leave alone."""
        if self.name == "eager":
            function()
            return
        if name not in self.graphs:
            self.graphs[name] = self._capture(function, list(state))
        self.graphs[name].replay()

    def release(self) -> None:
        """Forget the graphs, and give the memory between their kernels back to the device: other processes train there too."""
        self.graphs.clear()
        if self.queue is not None:
            torch.cuda.empty_cache()

    def _capture(self, function: Callable[[], None], state: list[Tensor]) -> torch.cuda.CUDAGraph:
        before = [tensor.clone() for tensor in state]
        for _ in range(REHEARSALS):
            function()
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        # Other cohorts may be replaying meanwhile: only what this thread does is refused during the capture.
        with torch.cuda.graph(graph, pool=self.pool, stream=self.queue, capture_error_mode="thread_local"):
            function()
        return graph


class Lane:
    """A CUDA stream beside the current one, for work that does not wait for what is put there next, nor that for it.

    In a graph the two are parallel paths. Autograd runs each operation's gradient on the stream of the operation and lets
    streams wait for each other where gradients meet, so the gradients are parallel as well. Memory that one stream has
    allocated and the other reads is said to the allocator, which would use it again too early.
    """

    def __init__(self, device: torch.device) -> None:
        self.queue = torch.cuda.Stream(device)

    def beside(self, *read: Tensor) -> AbstractContextManager[object]:
        """The context in which work goes to the lane, after all that the current stream has so far."""
        _wait(self.queue, torch.cuda.current_stream(self.queue.device), read)
        return torch.cuda.stream(self.queue)

    def joined(self, *read: Tensor) -> AbstractContextManager[object]:
        """The context in which the current stream goes on, after all that the lane has so far."""
        _wait(torch.cuda.current_stream(self.queue.device), self.queue, read)
        return nullcontext()


def _wait(stream: torch.cuda.Stream, other: torch.cuda.Stream, read: Iterable[Tensor]) -> None:
    """Let a stream wait for another, some of whose tensors it will read."""
    stream.wait_stream(other)
    for tensor in read:
        tensor.record_stream(stream)
