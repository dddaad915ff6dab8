"""Two branches blended by a gate that each position computes from both, forward and backward in one pass each (lines 72-88 of
document 3).

    y = g r + (1 - g) m, g = sigmoid(w . [r; m] + b)

The gradients of w and b leave each program as a part, as in `gt.ops.kernels.norm`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels.launch import ROWS, apart, assert_contiguous, fold_runs, parted


@triton.jit
def gate_forward_kernel(
    r, m, weight, bias, y, gate, rows, of_weight, of_bias, N: tl.constexpr, ROWS: tl.constexpr, R: tl.constexpr, C: tl.constexpr
):
    """r, m (run * rows, N), weight (run, 2 N) and bias (run,) of runs that stand of_weight and of_bias apart -> y as r, gate
    (run * rows). Programs: (part, run).
    """
    run, column = tl.program_id(1).to(tl.int64), tl.arange(0, C)
    of_r = tl.load(weight + run * of_weight + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
    of_m = tl.load(weight + run * of_weight + N + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
    b = tl.load(bias + run * of_bias).to(tl.float32)
    for done in range(0, ROWS, R):
        row = tl.program_id(0) * ROWS + done + tl.arange(0, R)
        there, at = (row < rows)[:, None] & (column < N)[None, :], (run * rows + row)[:, None] * N + column[None, :]
        r_t = tl.load(r + at, mask=there, other=0.0).to(tl.float32)
        m_t = tl.load(m + at, mask=there, other=0.0).to(tl.float32)
        g = 1 / (1 + tl.exp(-(tl.sum(r_t * of_r + m_t * of_m, axis=1) + b)))
        tl.store(gate + run * rows + row, g, mask=row < rows)
        tl.store(y + at, (m_t + g[:, None] * (r_t - m_t)).to(y.dtype.element_ty), mask=there)


@triton.jit
def gate_backward_kernel(
    r, m, weight, gate, dy, dgate, dr, dm, dweight, dbias, rows, of_weight,
    N: tl.constexpr, ROWS: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """dy as r, dgate as gate or None -> dr and dm as r, dweight (run, part, 2 N), dbias (run, part)."""
    run, column = tl.program_id(1).to(tl.int64), tl.arange(0, C)
    of_r = tl.load(weight + run * of_weight + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
    of_m = tl.load(weight + run * of_weight + N + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
    d_r, d_m, d_b = tl.zeros([R, C], tl.float32), tl.zeros([R, C], tl.float32), tl.zeros([R], tl.float32)
    for done in range(0, ROWS, R):
        row = tl.program_id(0) * ROWS + done + tl.arange(0, R)
        there, at = (row < rows)[:, None] & (column < N)[None, :], (run * rows + row)[:, None] * N + column[None, :]
        r_t = tl.load(r + at, mask=there, other=0.0).to(tl.float32)
        m_t = tl.load(m + at, mask=there, other=0.0).to(tl.float32)
        d = tl.load(dy + at, mask=there, other=0.0).to(tl.float32)
        g = tl.load(gate + run * rows + row, mask=row < rows, other=0.0)
        d_g = tl.sum(d * (r_t - m_t), axis=1)
        if dgate is not None:
            d_g += tl.load(dgate + run * rows + row, mask=row < rows, other=0.0)
        d_z = d_g * g * (1 - g)
        tl.store(dr + at, (g[:, None] * d + d_z[:, None] * of_r).to(dr.dtype.element_ty), mask=there)
        tl.store(dm + at, ((1 - g)[:, None] * d + d_z[:, None] * of_m).to(dm.dtype.element_ty), mask=there)
        d_r += d_z[:, None] * r_t
        d_m += d_z[:, None] * m_t
        d_b += d_z
    part = run * tl.num_programs(0) + tl.program_id(0)
    tl.store(dweight + part * 2 * N + column, tl.sum(d_r, axis=0), mask=column < N)
    tl.store(dweight + part * 2 * N + N + column, tl.sum(d_m, axis=0), mask=column < N)
    tl.store(dbias + part, tl.sum(d_b, axis=0))


def _sizes(r: Tensor, weight: Tensor) -> tuple[int, int, int, int]:
    """Rows of a run, parts, rows at once and columns of a tile."""
    rows = r.numel() // r.shape[-1] // len(weight)
    return rows, *parted(rows, r.shape[-1])


def _results(r: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(r), r.new_empty(*r.shape[:-1], 1, dtype=torch.float32)


def _gradients(r: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    runs, parts = len(weight), _sizes(r, weight)[1]
    dweight, dbias = (r.new_empty(runs, parts, *shape, dtype=torch.float32) for shape in (weight.shape[1:], ()))
    return torch.empty_like(r), torch.empty_like(r), dweight, dbias


@torch.library.custom_op("gt::gate", mutates_args=())
def gate_forward(r: Tensor, m: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """r, m (..., N) of one dtype, weight (R, 2 N), bias (R,), where a run has its share of the rows -> y as r, and the gate
    (..., 1) in float32.
    """
    assert_contiguous(r, m)
    rows, parts, at_once, columns = _sizes(r, weight)
    y, gate = results = _results(r)
    gate_forward_kernel[(parts, len(weight))](
        r, m, weight, bias, y, gate, rows, apart(weight), bias.stride(0), r.shape[-1], ROWS, at_once, columns, num_warps=1
    )
    return results


@torch.library.custom_op("gt::gate_backward", mutates_args=())
def gate_backward(
    r: Tensor, m: Tensor, weight: Tensor, gate: Tensor, dy: Tensor, dgate: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of r and m, and those of weight and bias in parts (R, part, ...)."""
    assert_contiguous(r, m, gate, dy, dgate)
    rows, parts, at_once, columns = _sizes(r, weight)
    gradients = _gradients(r, weight)
    gate_backward_kernel[(parts, len(weight))](
        r, m, weight, gate, dy, dgate, *gradients, rows, apart(weight), r.shape[-1], ROWS, at_once, columns, num_warps=1
    )
    return gradients


@gate_forward.register_fake
def _(r: Tensor, m: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return _results(r)


@gate_backward.register_fake
def _(
    r: Tensor, m: Tensor, weight: Tensor, gate: Tensor, dy: Tensor, dgate: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _gradients(r, weight)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    r, m, weight, bias = inputs
    ctx.save_for_backward(r, m, weight, output[1])
    ctx.dtype = bias.dtype
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, dy: Tensor | None, dgate: Tensor | None) -> tuple[Tensor, ...]:
    r, m, weight, gate = ctx.saved_tensors
    dy = torch.zeros_like(r) if dy is None else dy.contiguous()
    dgate = None if dgate is None else dgate.contiguous()
    dr, dm, dweight, dbias = gate_backward(r, m, weight, gate, dy, dgate)
    return dr, dm, dweight.sum(1).to(weight.dtype), dbias.sum(1).to(ctx.dtype)


gate_forward.register_autograd(_differentiate, setup_context=_remember)
fold_runs(gate_forward)
