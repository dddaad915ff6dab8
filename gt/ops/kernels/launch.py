"""How the kernels are launched, a fixed choice for each shape since it is part of what decides the bits of a run; and how the
chunked ones are made operators that torch differentiates and maps over runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Positions at once.
CHUNK = 16
# Of a kernel that goes row by row: rows of a program, which is a warp, and numbers at once.
ROWS, TILE = 4, 1024


def rounded(activations: Tensor) -> bool:
    """Whether a model's activations have the 8 bits of bfloat16, so that products may round their factors to as many."""
    return activations.dtype == torch.bfloat16


def warps(elements: int) -> int:
    """Warps of a program that keeps a state of this size, and whose products are exact: four were best at head sizes of 32."""
    return 4 if elements <= 2048 else 8


def folded(x: Tensor, dim: int | None, n: int) -> Tensor:
    """An input of n runs as one of a batch n times as large: (n, batch, ...) -> (n * batch, ...)."""
    return (x.expand(n, *x.shape) if dim is None else x.movedim(dim, 0)).flatten(0, 1)


def register(forward: Any, gradients: Any, written: int, strided: bool = False) -> None:
    """Differentiate an operator by its backward kernel, and fold runs into the batch under `torch.func.vmap`.

    forward(*inputs, start) -> (y, last state, states before each chunk), the third for the backward pass alone;
    gradients(*inputs, states, dy, dlast, started) -> those of inputs and, if started, of start. y is like inputs[written].
    Copies and sums around the kernels are made here and in `gradients`, not in the operators: a compiler then fuses them with
    what is next to them. strided: the inputs need not be contiguous.
    """

    def remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        *tensors, start = inputs
        ctx.save_for_backward(*tensors, output[2])
        ctx.started = start is not None
        ctx.set_materialize_grads(False)  # the states have no gradient, and zeros for them would be written every time

    def differentiate(ctx: Any, dy: Tensor | None, dlast: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        *inputs, states = ctx.saved_tensors
        dy = torch.zeros_like(inputs[written]) if dy is None else dy.contiguous()
        dlast = None if dlast is None else dlast.contiguous()
        *of_inputs, dstart = gradients(*inputs, states, dy, dlast, ctx.started)
        return (*of_inputs, dstart if ctx.started else None)

    forward.register_autograd(differentiate, setup_context=remember)
    fold_runs(forward, as_it_is if strided else Tensor.contiguous)


def as_it_is(x: Tensor) -> Tensor:
    """x."""
    return x


def fold_runs(forward: Any, prepared: Callable[[Tensor], Tensor] = as_it_is) -> None:
    """Under `torch.func.vmap` an operator takes all runs at once: the first dimension of each tensor that it takes or returns
    is a batch, or parameters of a run, and may be as many times as large. prepared: what is done to folded inputs.
    """

    def over_runs(info: Any, in_dims: Any, *inputs: Any) -> Any:
        given = zip(inputs, in_dims, strict=True)
        results = forward(*(prepared(folded(x, dim, info.batch_size)) if isinstance(x, Tensor) else x for x, dim in given))
        if isinstance(results, Tensor):
            return results.unflatten(0, (info.batch_size, -1)), 0
        return tuple(x.unflatten(0, (info.batch_size, -1)) for x in results), (0,) * len(results)

    forward.register_vmap(over_runs)


def contiguous(x: Tensor | None) -> Tensor | None:
    """As kernels address their inputs."""
    return x if x is None else x.contiguous()


def assert_contiguous(*inputs: Tensor | None) -> None:
    """Of what a kernel gets: it would read other numbers than were meant."""
    assert all(x is None or x.is_contiguous() for x in inputs)


def lined(x: Tensor) -> Tensor:
    """x, or a copy where its rows are not equally far apart, as those of some positions of each sequence are not."""
    return x if _equally_apart(x) else x.contiguous()


def apart(x: Tensor | None) -> int:
    """Numbers from one row of x to the next, as of a part of the columns of a wider tensor; 0 of None. AssertionError where
    rows are not equally far apart.
    """
    if x is None:
        return 0
    assert _equally_apart(x), "a kernel's rows are equally far apart"
    return x.flatten(0, -2).stride(0)


def _equally_apart(x: Tensor) -> bool:
    rows = x.flatten(0, -2)
    return rows.data_ptr() == x.data_ptr() and rows.stride(1) == 1


def parted(rows: int, channels: int) -> tuple[int, int, int]:
    """How some rows of a run are cut: in how many programs, rows at once, and columns of a tile, the next power of two."""
    columns = 1 << (channels - 1).bit_length()
    return -(-rows // ROWS), min(ROWS, max(1, TILE // columns)), columns
