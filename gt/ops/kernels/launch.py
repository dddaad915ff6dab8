"""How the kernels are launched, a fixed choice for each shape since it is part of what decides the bits of a run; and how the
chunked ones are made operators that torch differentiates and maps over runs.
"""

from __future__ import annotations

from typing import Any

import torch
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


def register(forward: Any, backward: Any, written: int) -> None:
    """Differentiate an operator by its backward kernel, and fold runs into the batch under `torch.func.vmap`.

    forward(*inputs, start) -> (y, last state, states before each chunk), the third for the backward pass alone;
    backward(*inputs, states, dy, dlast) -> the gradients of inputs and start. y is like inputs[written].
    """

    def remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        *tensors, start = inputs
        ctx.save_for_backward(*tensors, output[2])
        ctx.has_start = start is not None
        ctx.set_materialize_grads(False)  # the states have no gradient, and zeros for them would be written every time

    def differentiate(ctx: Any, dy: Tensor | None, dlast: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        *inputs, states = ctx.saved_tensors
        dy = torch.zeros_like(inputs[written]) if dy is None else dy
        dlast = torch.zeros_like(states[:, :, 0]) if dlast is None else dlast
        *gradients, dstart = backward(*inputs, states, dy, dlast)
        return (*gradients, dstart if ctx.has_start else None)

    def over_runs(info: Any, in_dims: Any, *inputs: Tensor | None) -> Any:
        outputs = forward(*(folded(x, dim, info.batch_size) for x, dim in zip(inputs, in_dims, strict=True)))
        return tuple(x.unflatten(0, (info.batch_size, -1)) for x in outputs), (0, 0, 0)

    forward.register_autograd(differentiate, setup_context=remember)
    forward.register_vmap(over_runs)
