"""How the kernels are launched: a fixed choice for each shape, since it is part of what decides the bits of a run."""

from __future__ import annotations

from torch import Tensor

# Positions at once.
CHUNK = 16


def warps(rows: int, columns: int) -> int:
    """Warps of a program that keeps a state of this size: four at head sizes of 32, where two and eight were slower."""
    return 4 if rows * columns <= 2048 else 8


def folded(x: Tensor | None, dim: int | None, n: int) -> Tensor | None:
    """An input of n runs as one of a batch n times as large: (n, batch, ...) -> (n * batch, ...)."""
    if x is None:
        return None
    return (x.expand(n, *x.shape) if dim is None else x.movedim(dim, 0)).flatten(0, 1)
