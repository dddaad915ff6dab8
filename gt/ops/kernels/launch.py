"""How the kernels are launched, a fixed choice for each shape since it is part of what decides the bits of a run; and how the
chunked ones are made operators that torch differentiates and maps over runs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Positions at once.
CHUNK = 16


def one_pass(activations: Tensor) -> bool:
    """Whether products may round their factors to the 11 bits of TF32: where a model's activations have 8."""
    return activations.dtype == torch.bfloat16


def warps(elements: int, rounded: bool) -> int:
    """Warps of a program that keeps a state of this size.

    On tensor cores as few as can hold it, 32 elements a thread: the rows of a chunk are no more than one product has, and
    further warps would repeat it. Exact products are spread over more: four were best at head sizes of 32.
    """
    return max(1, elements // 1024) if rounded else 4 if elements <= 2048 else 8


def stages(rounded: bool) -> int:
    """Chunks that are on their way at a time: exact products leave no registers for the next one."""
    return 2 if rounded else 1


def folded(x: Tensor | None, dim: int | None, n: int) -> Tensor | None:
    """An input of n runs as one of a batch n times as large: (n, batch, ...) -> (n * batch, ...)."""
    if x is None:
        return None
    return (x.expand(n, *x.shape) if dim is None else x.movedim(dim, 0)).flatten(0, 1)


def register(forward: Any, gradients: Any, written: int) -> None:
    """Differentiate an operator by its backward kernel, and fold runs into the batch under `torch.func.vmap`.

    forward(*inputs, start) -> (y, last state, states before each chunk), the third for the backward pass alone;
    gradients(*inputs, states, dy, dlast) -> those of inputs and start. y is like inputs[written]. Copies and sums around the
    kernels are made here and in `gradients`, not in the operators: a compiler then fuses them with what is next to them.
    """

    def remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        *tensors, start = inputs
        ctx.save_for_backward(*tensors, output[2])
        ctx.has_start = start is not None
        ctx.set_materialize_grads(False)  # the states have no gradient, and zeros for them would be written every time

    def differentiate(ctx: Any, dy: Tensor | None, dlast: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        *inputs, states = ctx.saved_tensors
        dy = torch.zeros_like(inputs[written]) if dy is None else dy.contiguous()
        dlast = None if dlast is None else dlast.contiguous()
        *of_inputs, dstart = gradients(*inputs, states, dy, dlast)
        return (*of_inputs, dstart if ctx.has_start else None)

    def over_runs(info: Any, in_dims: Any, *inputs: Tensor | None) -> Any:
        outputs = forward(*(contiguous(folded(x, dim, info.batch_size)) for x, dim in zip(inputs, in_dims, strict=True)))
        return tuple(x.unflatten(0, (info.batch_size, -1)) for x in outputs), (0, 0, 0)

    forward.register_autograd(differentiate, setup_context=remember)
    forward.register_vmap(over_runs)


def contiguous(x: Tensor | None) -> Tensor | None:
    """As kernels address their inputs."""
    return x if x is None else x.contiguous()


def assert_contiguous(*inputs: Tensor | None) -> None:
    """Of what a kernel gets: it would read other numbers than were meant."""
    assert all(x is None or x.is_contiguous() for x in inputs)
