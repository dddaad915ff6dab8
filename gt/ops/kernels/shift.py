"""Mixes of a position with the one before it, forward and backward in one pass each (RWKV's token shift).

    y_i,t = x_t + (x_{t-1} - x_t) * (z_i,t + bias_i), for each of n mixes i, with x_{-1} = 0

z is what depends on the data, if anything does. A program has some positions of one run; the gradients of biases leave it as a
part, as in `gt.ops.kernels.norm`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels.launch import ROWS, assert_contiguous, fold_runs, parted


@triton.jit
def _place(y, last, run, i: tl.constexpr, row, rows, N: tl.constexpr, MIXES: tl.constexpr, LAST: tl.constexpr):
    """Where a row of mix i stands: that of LAST is in a tensor of its own."""
    if i == LAST:
        return last + (run * rows + row) * N
    slot: tl.constexpr = i if i < LAST else i - 1
    return y + ((run * (MIXES - 1) + slot) * rows + row) * N


@triton.jit
def shift_forward_kernel(
    x, z, bias, y, last, rows, T, of_bias,
    N: tl.constexpr, MIXES: tl.constexpr, LAST: tl.constexpr, ROWS: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """x (run * rows, N) of sequences of T rows, z (run, MIXES, rows, N) or None, bias (run, MIXES, N) of runs that stand
    of_bias numbers apart -> y (run, MIXES - 1, rows, N) and mix LAST, last (run, rows, N). Programs:
    (part, run).
    """
    run, column = tl.program_id(1).to(tl.int64), tl.arange(0, C)[None, :]
    for done in range(0, ROWS, R):
        row = (tl.program_id(0) * ROWS + done + tl.arange(0, R))[:, None]
        there = (row < rows) & (column < N)
        at = run * rows + row
        x_t = tl.load(x + at * N + column, mask=there, other=0.0).to(tl.float32)
        delta = tl.load(x + (at - 1) * N + column, mask=there & (row % T > 0), other=0.0).to(tl.float32) - x_t
        for i in tl.static_range(MIXES):
            m = tl.load(bias + run * of_bias + i * N + column, mask=column < N, other=0.0).to(tl.float32)
            if z is not None:
                m += tl.load(z + ((run * MIXES + i) * rows + row) * N + column, mask=there, other=0.0).to(tl.float32)
            out = _place(y, last, run, i, row, rows, N, MIXES, LAST) + column
            tl.store(out, (x_t + delta * m).to(last.dtype.element_ty), mask=there)


@triton.jit
def shift_backward_kernel(
    x, z, bias, dy, dlast, dx, dz, dbias, rows, T, of_bias,
    N: tl.constexpr, MIXES: tl.constexpr, LAST: tl.constexpr, ROWS: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """dy and dlast as y and last -> dx as x, dz as z, and dbias (run, part, MIXES, N)."""
    run, column = tl.program_id(1).to(tl.int64), tl.arange(0, C)[None, :]
    part = run * tl.num_programs(0) + tl.program_id(0)
    for done in range(0, ROWS, R):
        row = (tl.program_id(0) * ROWS + done + tl.arange(0, R))[:, None]
        there = (row < rows) & (column < N)
        at = run * rows + row
        follows = there & (row % T + 1 < T) & (row + 1 < rows)
        x_t = tl.load(x + at * N + column, mask=there, other=0.0).to(tl.float32)
        delta = tl.load(x + (at - 1) * N + column, mask=there & (row % T > 0), other=0.0).to(tl.float32) - x_t
        dx_t = tl.zeros([R, C], tl.float32)
        for i in tl.static_range(MIXES):
            m = tl.load(bias + run * of_bias + i * N + column, mask=column < N, other=0.0).to(tl.float32)
            m_next = m
            given = _place(dy, dlast, run, i, row, rows, N, MIXES, LAST) + column
            d = tl.load(given, mask=there, other=0.0).to(tl.float32)
            d_next = tl.load(given + N, mask=follows, other=0.0).to(tl.float32)
            dm = d * delta
            if z is not None:
                own = ((run * MIXES + i) * rows + row) * N + column
                m += tl.load(z + own, mask=there, other=0.0).to(tl.float32)
                m_next += tl.load(z + own + N, mask=follows, other=0.0).to(tl.float32)
                tl.store(dz + own, dm.to(dz.dtype.element_ty), mask=there)
            dx_t += d - d * m + d_next * m_next
            sums = dbias + (part * MIXES + i) * N + column
            total = tl.sum(dm, axis=0)[None, :]
            if done > 0:
                total += tl.load(sums, mask=column < N, other=0.0)
            tl.store(sums, total, mask=column < N)
        tl.store(dx + at * N + column, dx_t.to(dx.dtype.element_ty), mask=there)


def _sizes(x: Tensor, bias: Tensor) -> tuple[int, int, int, int]:
    """Rows of a run, parts, rows at once and columns of a tile."""
    rows = x.shape[0] * x.shape[1] // len(bias)
    return rows, *parted(rows, x.shape[2])


def _results(x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    runs, mixes, n = bias.shape
    return x.new_empty(runs, mixes - 1, x.shape[0] // runs, x.shape[1], n), x.new_empty(x.shape)


def _gradients(x: Tensor, z: Tensor | None, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    dz = x.new_empty(0) if z is None else torch.empty_like(z)
    runs, mixes, n = bias.shape
    return torch.empty_like(x), dz, x.new_empty(runs, _sizes(x, bias)[1], mixes, n, dtype=torch.float32)


@torch.library.custom_op("gt::shift", mutates_args=())
def shift_forward(x: Tensor, z: Tensor | None, bias: Tensor, last: int) -> tuple[Tensor, Tensor]:
    """x (B, T, N), z (R mix, B / R, T, N) or None, bias (R, mix, N), where B / R sequences are a run's -> all mixes but `last`,
    (R, mix - 1, B / R, T, N), and that one, (B, T, N). x and z are contiguous.
    """
    assert_contiguous(x, z, bias[0])
    rows, parts, at_once, columns = _sizes(x, bias)
    y, y_last = results = _results(x, bias)
    shift_forward_kernel[(parts, len(bias))](
        x, z, bias, y, y_last, rows, x.shape[1], bias.stride(0), x.shape[2], bias.shape[1], last, ROWS, at_once, columns,
        num_warps=1,
    )  # fmt: skip
    return results


@torch.library.custom_op("gt::shift_backward", mutates_args=())
def shift_backward(
    x: Tensor, z: Tensor | None, bias: Tensor, dy: Tensor, dlast: Tensor, last: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x and z (nothing if there is none), and that of bias in parts (R, part, mix, N)."""
    assert_contiguous(x, z, bias[0], dy, dlast)
    rows, parts, at_once, columns = _sizes(x, bias)
    dx, dz, dbias = gradients = _gradients(x, z, bias)
    shift_backward_kernel[(parts, len(bias))](
        x, z, bias, dy, dlast, dx, dz, dbias, rows, x.shape[1], bias.stride(0), x.shape[2], bias.shape[1], last, ROWS, at_once,
        columns, num_warps=1,
    )  # fmt: skip
    return gradients


@shift_forward.register_fake
def _(x: Tensor, z: Tensor | None, bias: Tensor, last: int) -> tuple[Tensor, Tensor]:
    return _results(x, bias)


@shift_backward.register_fake
def _(x: Tensor, z: Tensor | None, bias: Tensor, dy: Tensor, dlast: Tensor, last: int) -> tuple[Tensor, Tensor, Tensor]:
    return _gradients(x, z, bias)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.last = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, dy: Tensor, dlast: Tensor) -> tuple[Tensor | None, ...]:
    x, z, bias = ctx.saved_tensors
    dx, dz, dbias = shift_backward(x, z, bias, dy.contiguous(), dlast.contiguous(), ctx.last)
    return dx, None if z is None else dz, dbias.sum(1).to(bias.dtype), None


shift_forward.register_autograd(_differentiate, setup_context=_remember)
fold_runs(shift_forward)
