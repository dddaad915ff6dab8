"""A bias that is added to activations, whose gradient is a sum in two steps: over some rows, and over those parts."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels.launch import apart, assert_contiguous, fold_runs

ROWS, COLUMNS = 8, 128  # of the tile of a program that adds, which is a warp
SUMMED = 32  # rows of a program that sums


@triton.jit
def bias_forward_kernel(x, bias, y, rows, of_bias, N: tl.constexpr, R: tl.constexpr, C: tl.constexpr):
    """x (run * rows, N), bias (run, N) of runs that stand of_bias apart -> y as x. Programs: (part, tile of columns, run)."""
    run, column = tl.program_id(2).to(tl.int64), tl.program_id(1) * C + tl.arange(0, C)[None, :]
    row = (tl.program_id(0) * R + tl.arange(0, R))[:, None]
    there, at = (row < rows) & (column < N), (run * rows + row) * N + column
    b = tl.load(bias + run * of_bias + column, mask=column < N, other=0.0).to(tl.float32)
    tl.store(y + at, (tl.load(x + at, mask=there, other=0.0).to(tl.float32) + b).to(y.dtype.element_ty), mask=there)


@triton.jit
def sums_kernel(x, sums, rows, N: tl.constexpr, R: tl.constexpr, C: tl.constexpr):
    """x (run * rows, N) -> the sum of each R rows, (run, part, N). Programs: (part, tile of columns, run)."""
    run, column = tl.program_id(2).to(tl.int64), tl.program_id(1) * C + tl.arange(0, C)[None, :]
    row = (tl.program_id(0) * R + tl.arange(0, R))[:, None]
    there, at = (row < rows) & (column < N), (run * rows + row) * N + column
    total = tl.sum(tl.load(x + at, mask=there, other=0.0).to(tl.float32), axis=0)[None, :]
    tl.store(sums + (run * tl.num_programs(0) + tl.program_id(0)) * N + column, total, mask=column < N)


def _rows(x: Tensor, runs: int) -> int:
    return x.numel() // x.shape[-1] // runs


@torch.library.custom_op("gt::bias", mutates_args=())
def bias_forward(x: Tensor, bias: Tensor) -> Tensor:
    """x (..., N), bias (R, N), where a run has its share of the rows -> their sum, as x."""
    assert_contiguous(x)
    y, (runs, n) = torch.empty_like(x), bias.shape
    grid = triton.cdiv(_rows(x, runs), ROWS), triton.cdiv(n, COLUMNS), runs
    bias_forward_kernel[grid](x, bias, y, _rows(x, runs), apart(bias), n, ROWS, COLUMNS, num_warps=1)
    return y


@torch.library.custom_op("gt::bias_backward", mutates_args=())
def bias_backward(dy: Tensor, runs: int) -> Tensor:
    """The gradient of bias in parts (R, part, N)."""
    assert_contiguous(dy)
    sums, n = _parts(dy, runs), dy.shape[-1]
    sums_kernel[(sums.shape[1], triton.cdiv(n, 64), runs)](dy, sums, _rows(dy, runs), n, SUMMED, 64, num_warps=1)
    return sums


def _parts(dy: Tensor, runs: int) -> Tensor:
    return dy.new_empty(runs, triton.cdiv(_rows(dy, runs), SUMMED), dy.shape[-1], dtype=torch.float32)


@bias_forward.register_fake
def _(x: Tensor, bias: Tensor) -> Tensor:
    return torch.empty_like(x)


@bias_backward.register_fake
def _(dy: Tensor, runs: int) -> Tensor:
    return _parts(dy, runs)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.runs, ctx.dtype = len(inputs[1]), inputs[1].dtype


def _differentiate(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
    dy = dy.contiguous()
    return dy, bias_backward(dy, ctx.runs).sum(1).to(ctx.dtype)


bias_forward.register_autograd(_differentiate, setup_context=_remember)
fold_runs(bias_forward)
