"""A linear map whose weights get a gradient that lies as they do.

Of stacked runs torch's comes transposed, since a batch of products takes weights transposed, and to turn it is a pass of its
own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gt.ops.kernels.launch import fold_runs


def _of_runs(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, a matrix a run."""
    return torch.mm(a[0], b[0]).unsqueeze(0) if len(a) == 1 else torch.bmm(a, b)


@torch.library.custom_op("gt::linear", mutates_args=())
def linear_forward(x: Tensor, weight: Tensor) -> Tensor:
    """x (..., K), weight (R, N, K) of one dtype, where a run has its share of the rows -> (..., N)."""
    rows = x.reshape(len(weight), -1, x.shape[-1])
    return _of_runs(rows, weight.transpose(1, 2)).view(*x.shape[:-1], weight.shape[1])


@torch.library.custom_op("gt::linear_backward", mutates_args=())
def linear_backward(x: Tensor, weight: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of x and weight."""
    rows, of_rows = (t.reshape(len(weight), -1, t.shape[-1]) for t in (x, dy))
    return _of_runs(of_rows, weight).view(x.shape), _of_runs(of_rows.transpose(1, 2), rows)


@linear_forward.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[1])


@linear_backward.register_fake
def _(x: Tensor, weight: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
    return linear_backward(*ctx.saved_tensors, dy.contiguous())


linear_forward.register_autograd(_differentiate, setup_context=_remember)
fold_runs(linear_forward)
