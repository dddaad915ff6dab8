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
    """x (run * rows, N), bias (run, N) of runs that stand of_bias apart, or None -> y as x. Programs: (part, tile of columns,
    run).
    """
    run, column = tl.program_id(2).to(tl.int64), tl.program_id(1) * C + tl.arange(0, C)[None, :]
    row = (tl.program_id(0) * R + tl.arange(0, R))[:, None]
    there, at = (row < rows) & (column < N), (run * rows + row) * N + column
    a = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
    if bias is not None:
        a += tl.load(bias + run * of_bias + column, mask=column < N, other=0.0).to(tl.float32)
    phi, _ = _distribution(a, TANH)
    tl.store(y + at, (a * phi).to(y.dtype.element_ty), mask=there)


@triton.jit
def gelu_backward_kernel(
    x, bias, dy, dx, dbias, rows, of_bias,
    N: tl.constexpr, TANH: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """dy as y -> dx as x, dbias (run, part, N)."""
    run, column = tl.program_id(2).to(tl.int64), tl.program_id(1) * C + tl.arange(0, C)[None, :]
    row = (tl.program_id(0) * R + tl.arange(0, R))[:, None]
    there, at = (row < rows) & (column < N), (run * rows + row) * N + column
    a = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
    if bias is not None:
        a += tl.load(bias + run * of_bias + column, mask=column < N, other=0.0).to(tl.float32)
    phi, density = _distribution(a, TANH)
    d = tl.load(dy + at, mask=there, other=0.0).to(tl.float32) * (phi + a * density)
    tl.store(dx + at, d.to(dx.dtype.element_ty), mask=there)
    if bias is not None:
        part = (run * tl.num_programs(0) + tl.program_id(0)) * N + column
        tl.store(dbias + part, tl.sum(d, axis=0)[None, :], mask=column < N)


def _sizes(x: Tensor, bias: Tensor | None) -> tuple[int, tuple[int, int, int]]:
    """Rows of a run, and parts, tiles of columns and runs."""
    runs, n = 1 if bias is None else len(bias), x.shape[-1]
    rows = x.numel() // n // runs
    return rows, (triton.cdiv(rows, ROWS), triton.cdiv(n, COLUMNS), runs)


@torch.library.custom_op("gt::gelu", mutates_args=())
def gelu_forward(x: Tensor, bias: Tensor | None, tanh: bool) -> Tensor:
    """x (..., N), bias (R, N) or None, where a run has its share of the rows -> gelu(x + bias). tanh: the approximation."""
    assert_contiguous(x)
    y, (rows, grid) = torch.empty_like(x), _sizes(x, bias)
    gelu_forward_kernel[grid](x, bias, y, rows, apart(bias), x.shape[-1], tanh, ROWS, COLUMNS, num_warps=1)
    return y


@torch.library.custom_op("gt::gelu_backward", mutates_args=())
def gelu_backward(x: Tensor, bias: Tensor | None, dy: Tensor, tanh: bool) -> tuple[Tensor, Tensor]:
    """The gradient of x, and that of bias in parts (R, part, N), nothing if there is none."""
    assert_contiguous(x, dy)
    (dx, dbias), (rows, grid) = _gradients(x, bias), _sizes(x, bias)
    gelu_backward_kernel[grid](x, bias, dy, dx, dbias, rows, apart(bias), x.shape[-1], tanh, ROWS, COLUMNS, num_warps=1)
    return dx, dbias


def _gradients(x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    parts, _, runs = _sizes(x, bias)[1]
    return torch.empty_like(x), x.new_empty((0,) if bias is None else (runs, parts, x.shape[-1]), dtype=torch.float32)


@gelu_forward.register_fake
def _(x: Tensor, bias: Tensor | None, tanh: bool) -> Tensor:
    return torch.empty_like(x)


@gelu_backward.register_fake
def _(x: Tensor, bias: Tensor | None, dy: Tensor, tanh: bool) -> tuple[Tensor, Tensor]:
    return _gradients(x, bias)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.tanh = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, bias = ctx.saved_tensors
    dx, dbias = gelu_backward(x, bias, dy.contiguous(), ctx.tanh)
    return dx, None if bias is None else dbias.sum(1).to(bias.dtype), None


gelu_forward.register_autograd(_differentiate, setup_context=_remember)
fold_runs(gelu_forward)
