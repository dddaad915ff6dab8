"""A short causal convolution with silu after it, forward and backward in one pass each (Mamba's, Gu and Dao 2023,
arXiv:2312.00752, figure 3).

    y_t = silu(a_t), a_t = b + sum over i < taps of w_i x_{t-i}

Backward a program goes through its positions from the last, with what the next ones have for them and the inputs before them in
registers; a is computed again. The gradients of weights leave each program as a part, as in `gt.ops.kernels.norm`.
"""

# Triton unrolls tuples that grow in a loop.
# mypy: disable-error-code="assignment, misc"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels.launch import apart, assert_contiguous, fold_runs, lined

ROWS, COLUMNS = 8, 64  # of a program, which is a warp


@triton.jit
def conv_forward_kernel(
    x, weight, bias, y, rows, T, of_x, of_weight, of_bias,
    N: tl.constexpr, TAPS: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """x (run * rows, N) of sequences of T rows that stand of_x numbers apart, weight (run, N, TAPS) and bias (run, N) of runs
    that stand of_weight and of_bias apart -> y (run * rows, N). Programs: (part, tile of columns, run).
    """
    run, column = tl.program_id(2).to(tl.int64), tl.program_id(1) * C + tl.arange(0, C)[None, :]
    row = (tl.program_id(0) * R + tl.arange(0, R))[:, None]
    own, there, weight = column < N, (row < rows) & (column < N), weight + run * of_weight
    x, y = x + run * rows * of_x, y + run * rows * N
    a = tl.load(bias + run * of_bias + column, mask=own, other=0.0).to(tl.float32)
    for i in tl.static_range(TAPS):
        w = tl.load(weight + column * TAPS + (TAPS - 1 - i), mask=own, other=0.0).to(tl.float32)
        a += w * tl.load(x + (row - i) * of_x + column, mask=there & (row % T >= i), other=0.0).to(tl.float32)
    tl.store(y + row * N + column, (a / (1 + tl.exp(-a))).to(y.dtype.element_ty), mask=there)


@triton.jit
def conv_backward_kernel(
    x, weight, bias, dy, dx, dweight, dbias, rows, T, of_x, of_weight, of_bias,
    N: tl.constexpr, TAPS: tl.constexpr, ROWS: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """dy (run * rows, N) -> dx as dy, dweight (run, part, N, TAPS) and dbias (run, part, N). A program goes through its rows
    from the last, and begins with those after them that they are read by.
    """
    run, column = tl.program_id(2).to(tl.int64), tl.program_id(1) * C + tl.arange(0, C)
    own, weight, bias = column < N, weight + run * of_weight, bias + run * of_bias
    x, dy, dx = x + run * rows * of_x + column, dy + run * rows * N + column, dx + run * rows * N + column
    b = tl.load(bias + column, mask=own, other=0.0).to(tl.float32)
    first = tl.program_id(0) * ROWS
    w, dw, db, later, window = (), (), tl.zeros([C], tl.float32), (), ()
    for i in tl.static_range(TAPS):
        w = w + (tl.load(weight + column * TAPS + (TAPS - 1 - i), mask=own, other=0.0).to(tl.float32),)
        dw = dw + (tl.zeros([C], tl.float32),)
    last = first + ROWS + TAPS - 2
    for i in tl.static_range(TAPS - 1):
        later = later + (tl.zeros([C], tl.float32),)
        there = own & (last - i + 0 * column < rows)
        window = window + (tl.load(x + (last - i) * of_x, mask=there, other=0.0).to(tl.float32),)
    for done in tl.static_range(ROWS + TAPS - 1):
        row = last - done
        there, t = own & (row + 0 * column < rows), row % T
        earliest = row - (TAPS - 1)
        read = own & (earliest + 0 * column >= 0) & (earliest + 0 * column < rows)
        window = window + (tl.load(x + earliest * of_x, mask=read, other=0.0).to(tl.float32),)
        a = b
        for i in tl.static_range(TAPS):
            a += tl.where(t >= i, w[i], 0.0) * window[i]
        s = 1 / (1 + tl.exp(-a))
        d = tl.load(dy + row * N, mask=there, other=0.0).to(tl.float32) * s * (1 + a * (1 - s))
        if done >= TAPS - 1:
            dx_t = w[0] * d
            for i in tl.static_range(1, TAPS):
                dx_t += tl.where(t + i < T, w[i], 0.0) * later[i - 1]
            tl.store(dx + row * N, dx_t.to(dx.dtype.element_ty), mask=there)
            db += d
            sums = ()
            for i in tl.static_range(TAPS):
                sums = sums + (dw[i] + tl.where(t >= i, d, 0.0) * window[i],)
            dw = sums
        later, window = (d,) + later[:-1], window[1:]
    part = (run * tl.num_programs(0) + tl.program_id(0)) * N + column
    tl.store(dbias + part, db, mask=own)
    for i in tl.static_range(TAPS):
        tl.store(dweight + part * TAPS + (TAPS - 1 - i), dw[i], mask=own)


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
    x = lined(x)
    y = torch.empty(x.shape, dtype=dtype, device=x.device)
    rows = x.shape[0] * x.shape[1] // len(weight)
    conv_forward_kernel[_grid(x, weight)](
        x, weight, bias, y, rows, x.shape[1], apart(x), weight.stride(0), apart(bias), x.shape[2], weight.shape[2], ROWS,
        COLUMNS, num_warps=1,
    )  # fmt: skip
    return y


@torch.library.custom_op("gt::conv_backward", mutates_args=())
def conv_backward(x: Tensor, weight: Tensor, bias: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, and those of weight and bias in parts (R, part, ...)."""
    assert_contiguous(weight[0], dy)
    x = lined(x)
    dx, dweight, dbias = gradients = _gradients(x, weight)
    rows = x.shape[0] * x.shape[1] // len(weight)
    conv_backward_kernel[_grid(x, weight)](
        x, weight, bias, dy, dx, dweight, dbias, rows, x.shape[1], apart(x), weight.stride(0), apart(bias), x.shape[2],
        weight.shape[2], ROWS, COLUMNS, num_warps=1,
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
