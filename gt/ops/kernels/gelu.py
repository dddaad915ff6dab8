"""gelu of a sum with a bias, forward and backward in one pass each (Hendrycks and Gimpel 2016, arXiv:1606.08415).

    y = a Phi(a), a = x + b, with the normal distribution's Phi, or with its approximation by tanh

The gradient of the bias leaves each program as a part, as in `gt.ops.kernels.norm`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels.launch import apart, assert_contiguous, fold_runs

ROWS, COLUMNS = 8, 128  # of the tile of a program, which is a warp


@triton.jit
def _distribution(a, TANH: tl.constexpr):
    """Phi(a), and its derivative."""
    if TANH:
        u = 0.7978845608028654 * (a + 0.044715 * a * a * a)
        phi = 1 / (1 + tl.exp(-2 * u))
        return phi, 2 * phi * (1 - phi) * 0.7978845608028654 * (1 + 3 * 0.044715 * a * a)
    return 0.5 * (1 + tl.erf(a * 0.7071067811865476)), 0.3989422804014327 * tl.exp(-0.5 * a * a)


@triton.jit
def gelu_forward_kernel(x, bias, y, rows, of_bias, N: tl.constexpr, TANH: tl.constexpr, R: tl.constexpr, C: tl.constexpr):
    """x (run * rows, N), bias (run, N) of runs that stand of_bias apart -> y as x. Programs: (part, tile of columns, run)."""
    run, column = tl.program_id(2).to(tl.int64), tl.program_id(1) * C + tl.arange(0, C)[None, :]
    b = tl.load(bias + run * of_bias + column, mask=column < N, other=0.0).to(tl.float32)
    row = (tl.program_id(0) * R + tl.arange(0, R))[:, None]
    there, at = (row < rows) & (column < N), (run * rows + row) * N + column
    a = tl.load(x + at, mask=there, other=0.0).to(tl.float32) + b
    phi, _ = _distribution(a, TANH)
    tl.store(y + at, (a * phi).to(y.dtype.element_ty), mask=there)


@triton.jit
def gelu_backward_kernel(
    x, bias, dy, dx, dbias, rows, of_bias,
    N: tl.constexpr, TANH: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """dy as y -> dx as x, dbias (run, part, N)."""
    run, column = tl.program_id(2).to(tl.int64), tl.program_id(1) * C + tl.arange(0, C)[None, :]
    b = tl.load(bias + run * of_bias + column, mask=column < N, other=0.0).to(tl.float32)
    row = (tl.program_id(0) * R + tl.arange(0, R))[:, None]
    there, at = (row < rows) & (column < N), (run * rows + row) * N + column
    a = tl.load(x + at, mask=there, other=0.0).to(tl.float32) + b
    phi, density = _distribution(a, TANH)
    d = tl.load(dy + at, mask=there, other=0.0).to(tl.float32) * (phi + a * density)
    tl.store(dx + at, d.to(dx.dtype.element_ty), mask=there)
    part = (run * tl.num_programs(0) + tl.program_id(0)) * N + column
    tl.store(dbias + part, tl.sum(d, axis=0)[None, :], mask=column < N)


def _grid(x: Tensor, bias: Tensor) -> tuple[int, int, int]:
    """Parts, tiles of columns, runs."""
    runs, n = bias.shape
    return triton.cdiv(x.numel() // n // runs, ROWS), triton.cdiv(n, COLUMNS), runs


@torch.library.custom_op("gt::gelu", mutates_args=())
def gelu_forward(x: Tensor, bias: Tensor, tanh: bool) -> Tensor:
    """x (..., N), bias (R, N), where a run has its share of the rows -> gelu(x + bias) as x. tanh: the approximation."""
    assert_contiguous(x)
    y = torch.empty_like(x)
    runs, n = bias.shape
    gelu_forward_kernel[_grid(x, bias)](x, bias, y, x.numel() // n // runs, apart(bias), n, tanh, ROWS, COLUMNS, num_warps=1)
    return y


@torch.library.custom_op("gt::gelu_backward", mutates_args=())
def gelu_backward(x: Tensor, bias: Tensor, dy: Tensor, tanh: bool) -> tuple[Tensor, Tensor]:
    """The gradient of x, and that of bias in parts (R, part, N)."""
    assert_contiguous(x, dy)
    dx, dbias = gradients = _gradients(x, bias)
    runs, n = bias.shape
    gelu_backward_kernel[_grid(x, bias)](
        x, bias, dy, dx, dbias, x.numel() // n // runs, apart(bias), n, tanh, ROWS, COLUMNS, num_warps=1
    )
    return gradients


def _gradients(x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    parts, _, runs = _grid(x, bias)
    return torch.empty_like(x), x.new_empty(runs, parts, bias.shape[1], dtype=torch.float32)


@gelu_forward.register_fake
def _(x: Tensor, bias: Tensor, tanh: bool) -> Tensor:
    return torch.empty_like(x)


@gelu_backward.register_fake
def _(x: Tensor, bias: Tensor, dy: Tensor, tanh: bool) -> tuple[Tensor, Tensor]:
    return _gradients(x, bias)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.tanh = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, bias = ctx.saved_tensors
    dx, dbias = gelu_backward(x, bias, dy.contiguous(), ctx.tanh)
    return dx, dbias.sum(1).to(bias.dtype), None


gelu_forward.register_autograd(_differentiate, setup_context=_remember)
fold_runs(gelu_forward)
