"""A short causal convolution with silu after it, forward and backward in one pass each (Mamba's, Gu and Dao 2023,
arXiv:2312.00752, figure 3).

    y_t = silu(a_t), a_t = b + sum over i < taps of w_i x_{t-i}

Backward a position needs a at the next ones too, which is computed again from x: reading neighbours is free where the cache has
them. The gradients of weights leave each program as a part, as in `gt.ops.kernels.norm`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels.launch import apart, assert_contiguous, fold_runs

ROWS, AT_ONCE, COLUMNS = 32, 8, 128  # rows of a program, those of a tile, and its channels


@triton.jit
def _before_silu(x, weight, bias, row, rows, T, column, later, of_x, N: tl.constexpr, TAPS: tl.constexpr):
    """a of the rows `later` than these in the same sequence, and whether there are any."""
    there = (row < rows) & (row % T + later < T) & (column < N)
    a = tl.load(bias + column, mask=column < N, other=0.0).to(tl.float32)
    for i in tl.static_range(TAPS):
        w = tl.load(weight + column * TAPS + (TAPS - 1 - i), mask=column < N, other=0.0).to(tl.float32)
        read = there & (row % T + later >= i)
        a += w * tl.load(x + (row + later - i) * of_x + column, mask=read, other=0.0).to(tl.float32)
    return a, there


@triton.jit
def conv_forward_kernel(
    x, weight, bias, y, rows, T, of_x, of_weight, of_bias,
    N: tl.constexpr, TAPS: tl.constexpr, ROWS: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """x (run * rows, N) of sequences of T rows that stand of_x numbers apart, weight (run, N, TAPS) and bias (run, N) of runs that
    stand of_weight and of_bias apart -> y (run * rows, N). Programs: (part, tile of columns, run).
    """
    run, column = tl.program_id(2).to(tl.int64), tl.program_id(1) * C + tl.arange(0, C)[None, :]
    x, y = x + run * rows * of_x, y + run * rows * N
    for done in range(0, ROWS, R):
        row = (tl.program_id(0) * ROWS + done + tl.arange(0, R))[:, None]
        a, there = _before_silu(x, weight + run * of_weight, bias + run * of_bias, row, rows, T, column, 0, of_x, N, TAPS)
        tl.store(y + row * N + column, (a / (1 + tl.exp(-a))).to(y.dtype.element_ty), mask=there)


@triton.jit
def conv_backward_kernel(
    x, weight, bias, dy, dx, dweight, dbias, rows, T, of_x, of_weight, of_bias,
    N: tl.constexpr, TAPS: tl.constexpr, ROWS: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """dy (run * rows, N) -> dx as dy, dweight (run, part, N, TAPS) and dbias (run, part, N)."""
    run, column = tl.program_id(2).to(tl.int64), tl.program_id(1) * C + tl.arange(0, C)[None, :]
    weight, bias = weight + run * of_weight, bias + run * of_bias
    x, dy, dx = x + run * rows * of_x, dy + run * rows * N, dx + run * rows * N
    part = run * tl.num_programs(0) + tl.program_id(0)
    for done in range(0, ROWS, R):
        row = (tl.program_id(0) * ROWS + done + tl.arange(0, R))[:, None]
        dx_t = tl.zeros([R, C], tl.float32)
        for i in tl.static_range(TAPS):
            a, there = _before_silu(x, weight, bias, row, rows, T, column, i, of_x, N, TAPS)
            s = 1 / (1 + tl.exp(-a))
            d = tl.load(dy + (row + i) * N + column, mask=there, other=0.0).to(tl.float32) * s * (1 + a * (1 - s))
            w = tl.load(weight + column * TAPS + (TAPS - 1 - i), mask=column < N, other=0.0).to(tl.float32)
            dx_t += w * d
            if i == 0:
                own = dbias + part * N + column
                _add(own, tl.sum(d, axis=0)[None, :], column < N, done > 0)
                for j in tl.static_range(TAPS):
                    before = tl.load(x + (row - j) * of_x + column, mask=there & (row % T >= j), other=0.0).to(tl.float32)
                    own = dweight + (part * N + column) * TAPS + (TAPS - 1 - j)
                    _add(own, tl.sum(d * before, axis=0)[None, :], column < N, done > 0)
        tl.store(dx + row * N + column, dx_t.to(dx.dtype.element_ty), mask=(row < rows) & (column < N))


@triton.jit
def _add(sums, x, mask, there):
    """Add to what this program has stored, if it has."""
    if there:
        x += tl.load(sums, mask=mask, other=0.0)
    tl.store(sums, x, mask=mask)


def _grid(x: Tensor, weight: Tensor) -> tuple[int, int, int]:
    """Parts, tiles of columns, runs."""
    rows = x.shape[0] * x.shape[1] // len(weight)
    return triton.cdiv(rows, ROWS), triton.cdiv(x.shape[2], COLUMNS), len(weight)


@torch.library.custom_op("gt::conv", mutates_args=())
def conv_forward(x: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """x (B, T, N), weight (R, N, taps), the last tap that of the position itself, and bias (R, N), where B / R sequences are a
    run's -> silu of the convolution, (B, T, N), in a dtype of its own.
    """
    assert_contiguous(weight[0])
    y = torch.empty(x.shape, dtype=dtype, device=x.device)
    rows = x.shape[0] * x.shape[1] // len(weight)
    conv_forward_kernel[_grid(x, weight)](
        x, weight, bias, y, rows, x.shape[1], apart(x), weight.stride(0), apart(bias), x.shape[2], weight.shape[2], ROWS,
        AT_ONCE, COLUMNS, num_warps=2,
    )  # fmt: skip
    return y


@torch.library.custom_op("gt::conv_backward", mutates_args=())
def conv_backward(x: Tensor, weight: Tensor, bias: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, and those of weight and bias in parts (R, part, ...)."""
    assert_contiguous(weight[0], dy)
    dx, dweight, dbias = gradients = _gradients(x, weight)
    rows = x.shape[0] * x.shape[1] // len(weight)
    conv_backward_kernel[_grid(x, weight)](
        x, weight, bias, dy, dx, dweight, dbias, rows, x.shape[1], apart(x), weight.stride(0), apart(bias), x.shape[2],
        weight.shape[2], ROWS, AT_ONCE, COLUMNS, num_warps=2,
    )  # fmt: skip
    return gradients


def _gradients(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    parts, _, runs = _grid(x, weight)
    dweight, dbias = (x.new_empty(runs, parts, *shape, dtype=torch.float32) for shape in (weight.shape[1:], weight.shape[1:2]))
    return x.new_empty(x.shape), dweight, dbias


@conv_forward.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty(x.shape, dtype=dtype, device=x.device)


@conv_backward.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _gradients(x, weight)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _differentiate(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias = ctx.saved_tensors
    dx, dweight, dbias = conv_backward(x, weight, bias, dy.contiguous())
    return dx, dweight.sum(1).to(weight.dtype), dbias.sum(1).to(bias.dtype), None


conv_forward.register_autograd(_differentiate, setup_context=_remember)
fold_runs(conv_forward)
