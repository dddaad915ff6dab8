"""How the kernels are launched: a fixed choice for each shape, since it is part of what decides the bits of a run."""

from __future__ import annotations

from torch import Tensor

# Positions between the states that a forward pass keeps for the backward pass.
CHUNK = 16


def warps(rows: int, columns: int) -> int:
    """Warps of a program that keeps a state of this size: 32 elements a thread, and one warp at least."""
    return max(1, min(8, rows * columns // 1024))


def folded(x: Tensor | None, dim: int | None, n: int) -> Tensor | None:
    """An input of n runs as one of a batch n times as large: (n, batch, ...) -> (n * batch, ...)."""
    if x is None:
        return None
    return (x.expand(n, *x.shape) if dim is None else x.movedim(dim, 0)).flatten(0, 1)
