"""Norms over the channels of a position, or of a sum, forward and backward in one pass each.

A program has some rows of one run. What a row needs is recomputed backward from the row itself, and the gradients of gains and
biases leave each program as a part, so that no sum has to go over the rows of a matrix a column at a time.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels.launch import ROWS, apart, assert_contiguous, fold_runs, lined, parted


@triton.jit
def _silu(g):
    """silu(g), and its derivative."""
    s = 1 / (1 + tl.exp(-g))
    return g * s, s * (1 + g * (1 - s))


@triton.jit
def _standard(x, there, N: tl.constexpr, GROUPS: tl.constexpr, eps, CENTRED: tl.constexpr, R: tl.constexpr, C: tl.constexpr):
    """Each group of a row's N channels with root mean square 1, centred before if it is to be, and 1 over what it was."""
    own: tl.constexpr = N // GROUPS
    x = tl.reshape(tl.where(there, x, 0.0), (R, GROUPS, C // GROUPS))
    if CENTRED:
        x -= tl.sum(x, axis=2, keep_dims=True) / own
        x = tl.where(tl.reshape(there, (R, GROUPS, C // GROUPS)), x, 0.0)
    scale = tl.rsqrt(tl.sum(x * x, axis=2, keep_dims=True) / own + eps)
    return x * scale, scale


@triton.jit
def norm_forward_kernel(
    x, added, gate, weight, bias, total, y, rows, of_x, of_added, of_gate, of_weight, of_bias, eps,
    N: tl.constexpr, GROUPS: tl.constexpr, CENTRED: tl.constexpr, GATE: tl.constexpr,
    ROWS: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """x, added and gate of rows that stand of_x, of_added and of_gate numbers apart, weight and bias (run, N) of runs that
    stand of_weight and of_bias apart -> y (run * rows, N), and the total of x and what is added, if something is. Programs:
    (part, run).
    """
    run, column = tl.program_id(1).to(tl.int64), tl.arange(0, C)
    own = (column < N)[None, :]
    w = tl.load(weight + run * of_weight + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
    for done in range(0, ROWS, R):
        row = tl.program_id(0) * ROWS + done + tl.arange(0, R)
        there = (row < rows)[:, None] & own
        at = (run * rows + row)[:, None]
        h = tl.load(x + at * of_x + column[None, :], mask=there, other=0.0).to(tl.float32)
        if added is not None:
            h += tl.load(added + at * of_added + column[None, :], mask=there, other=0.0).to(tl.float32)
            h = h.to(total.dtype.element_ty)
            tl.store(total + at * N + column[None, :], h, mask=there)
            h = h.to(tl.float32)
        if GATE != "":
            g, _ = _silu(tl.load(gate + at * of_gate + column[None, :], mask=there, other=0.0).to(tl.float32))
            if GATE == "first":
                h *= g
        h, _ = _standard(h, there, N, GROUPS, eps, CENTRED, R, C)
        out = tl.reshape(h, (R, C)) * w
        if bias is not None:
            out += tl.load(bias + run * of_bias + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
        if GATE == "last":
            out *= g
        tl.store(y + at * N + column[None, :], out.to(y.dtype.element_ty), mask=there)


@triton.jit
def norm_backward_kernel(
    x, gate, weight, bias, dtotal, dy, dx, dadded, dgate, dweight, dbias, rows, of_x, of_gate, of_weight, of_bias, eps,
    N: tl.constexpr, GROUPS: tl.constexpr, CENTRED: tl.constexpr, GATE: tl.constexpr,
    ROWS: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """dy (run * rows, N) -> dx and dgate as dy, dweight and dbias (run, part, N). Of a sum x is the total, dtotal what is known
    of its gradient, and dadded another dx.
    """
    run, column = tl.program_id(1).to(tl.int64), tl.arange(0, C)
    own = (column < N)[None, :]
    w = tl.load(weight + run * of_weight + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
    if bias is not None:
        b = tl.load(bias + run * of_bias + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
    dw, db = tl.zeros([R, C], tl.float32), tl.zeros([R, C], tl.float32)
    for done in range(0, ROWS, R):
        row = tl.program_id(0) * ROWS + done + tl.arange(0, R)
        there = (row < rows)[:, None] & own
        at = (run * rows + row)[:, None]
        place = at * N + column[None, :]
        given = tl.load(x + at * of_x + column[None, :], mask=there, other=0.0).to(tl.float32)
        d = tl.load(dy + place, mask=there, other=0.0).to(tl.float32)
        h = given
        if GATE != "":
            g, slope = _silu(tl.load(gate + at * of_gate + column[None, :], mask=there, other=0.0).to(tl.float32))
            if GATE == "first":
                h *= g
        h, scale = _standard(h, there, N, GROUPS, eps, CENTRED, R, C)
        flat = tl.reshape(h, (R, C))
        if GATE == "last":
            out = flat * w
            if bias is not None:
                out += b
            tl.store(dgate + place, (d * out * slope).to(dgate.dtype.element_ty), mask=there)
            d *= g
        dw += d * flat
        db += d
        d = tl.reshape(d * w, (R, GROUPS, C // GROUPS))
        d_own = d - h * (tl.sum(d * h, axis=2, keep_dims=True) / (N // GROUPS))
        if CENTRED:
            d_own -= tl.sum(d, axis=2, keep_dims=True) / (N // GROUPS)
        d = tl.reshape(d_own * scale, (R, C))
        if GATE == "first":
            tl.store(dgate + place, (d * given * slope).to(dgate.dtype.element_ty), mask=there)
            d *= g
        if dtotal is not None:
            d += tl.load(dtotal + place, mask=there, other=0.0).to(tl.float32)
        tl.store(dx + place, d.to(dx.dtype.element_ty), mask=there)
        if dadded is not None:
            tl.store(dadded + place, d.to(dadded.dtype.element_ty), mask=there)
    part = (run * tl.num_programs(0) + tl.program_id(0)) * N + column
    tl.store(dweight + part, tl.sum(dw, axis=0), mask=column < N)
    if bias is not None:
        tl.store(dbias + part, tl.sum(db, axis=0), mask=column < N)


def _sizes(x: Tensor, weight: Tensor) -> tuple[int, int, int, int]:
    """Rows of a run, parts, rows at once and columns of a tile."""
    runs, n = weight.shape
    rows = x.numel() // n // runs
    return rows, *parted(rows, n)


@torch.library.custom_op("gt::norm", mutates_args=())
def norm_forward(
    x: Tensor, gate: Tensor | None, weight: Tensor, bias: Tensor | None, groups: int, eps: float, centred: bool,
    gate_place: str, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """x, gate (..., N), weight, bias (run, N), where a run has its share of the rows -> as x, in a dtype of its own.

    gate_place: "first" if silu(gate) is multiplied on x, "last" if on the result, "" where there is no gate.
    """
    x, gate = lined(x), None if gate is None else lined(gate)
    rows, parts, at_once, columns = _sizes(x, weight)
    y = torch.empty(x.shape, dtype=dtype, device=x.device)
    norm_forward_kernel[(parts, len(weight))](
        x, None, gate, weight, bias, None, y, rows, *map(apart, (x, None, gate, weight, bias)), eps, x.shape[-1], groups,
        centred, gate_place, ROWS, at_once, columns, num_warps=1,
    )  # fmt: skip
    return y


@torch.library.custom_op("gt::norm_of_sum", mutates_args=())
def norm_of_sum_forward(
    x: Tensor, added: Tensor, weight: Tensor, bias: Tensor | None, eps: float, centred: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """x, added (..., N), weight, bias (run, N) -> x + added, in their wider dtype, and its norm, in a dtype of its own."""
    x, added = lined(x), lined(added)
    rows, parts, at_once, columns = _sizes(x, weight)
    total, y = results = _of_sum(x, added, dtype)
    norm_forward_kernel[(parts, len(weight))](
        x, added, None, weight, bias, total, y, rows, *map(apart, (x, added, None, weight, bias)), eps, x.shape[-1], 1, centred,
        "", ROWS, at_once, columns, num_warps=1,
    )  # fmt: skip
    return results


def _of_sum(x: Tensor, added: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(x.dtype, added.dtype)
    return torch.empty(x.shape, dtype=wide, device=x.device), torch.empty(x.shape, dtype=dtype, device=x.device)


@torch.library.custom_op("gt::norm_of_sum_backward", mutates_args=())
def norm_of_sum_backward(
    total: Tensor, weight: Tensor, bias: Tensor | None, dtotal: Tensor | None, dy: Tensor, eps: float, centred: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of x, of what was added, in its dtype (nothing where that is x's: it is the same), and those of weight and
    bias in parts.
    """
    assert_contiguous(total, dtotal, dy)
    rows, parts, at_once, columns = _sizes(total, weight)
    dx, dadded, dweight, dbias = gradients = _gradients_of_sum(total, weight, bias, dtype)
    norm_backward_kernel[(parts, len(weight))](
        total, None, weight, bias, dtotal, dy, dx, dadded if dadded.numel() else None, None, dweight, dbias, rows,
        *map(apart, (total, None, weight, bias)), eps, total.shape[-1], 1, centred, "", ROWS, at_once, columns, num_warps=1,
    )  # fmt: skip
    return gradients


def _gradients_of_sum(
    total: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dx, _, dweight, dbias = _gradients(total, None, weight, bias)
    return dx, dx.new_empty(0 if dtype == dx.dtype else dx.shape, dtype=dtype), dweight, dbias


@torch.library.custom_op("gt::norm_backward", mutates_args=())
def norm_backward(
    x: Tensor, gate: Tensor | None, weight: Tensor, bias: Tensor | None, dy: Tensor, groups: int, eps: float, centred: bool,
    gate_place: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of x and gate, and those of weight and bias in parts (run, part, N); of what is None, nothing."""
    assert_contiguous(dy)
    x, gate = lined(x), None if gate is None else lined(gate)
    rows, parts, at_once, columns = _sizes(x, weight)
    dx, dgate, dweight, dbias = gradients = _gradients(x, gate, weight, bias)
    norm_backward_kernel[(parts, len(weight))](
        x, gate, weight, bias, None, dy, dx, None, dgate, dweight, dbias, rows, *map(apart, (x, gate, weight, bias)), eps,
        x.shape[-1], groups, centred, gate_place, ROWS, at_once, columns, num_warps=1,
    )  # fmt: skip
    return gradients


def _gradients(x: Tensor, gate: Tensor | None, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    parts = (len(weight), _sizes(x, weight)[1], x.shape[-1])

    def room(like: Tensor | None, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(shape if like is not None else 0, dtype=dtype, device=x.device)

    dx = room(x, *x.shape, dtype=x.dtype)
    dgate = room(gate, *x.shape, dtype=x.dtype if gate is None else gate.dtype)
    return dx, dgate, room(weight, *parts, dtype=torch.float32), room(bias, *parts, dtype=torch.float32)


@norm_forward.register_fake
def _(x, gate, weight, bias, groups, eps, centred, gate_place, dtype):  # type: ignore[no-untyped-def]
    return torch.empty(x.shape, dtype=dtype, device=x.device)


@norm_backward.register_fake
def _(x, gate, weight, bias, dy, groups, eps, centred, gate_place):  # type: ignore[no-untyped-def]
    return _gradients(x, gate, weight, bias)


@norm_of_sum_forward.register_fake
def _(x, added, weight, bias, eps, centred, dtype):  # type: ignore[no-untyped-def]
    return _of_sum(x, added, dtype)


@norm_of_sum_backward.register_fake
def _(total, weight, bias, dtotal, dy, eps, centred, dtype):  # type: ignore[no-untyped-def]
    return _gradients_of_sum(total, weight, bias, dtype)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, gate, weight, bias, *ctx.options, _ = inputs
    ctx.save_for_backward(x, gate, weight, bias)


def _differentiate(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, gate, weight, bias = ctx.saved_tensors
    dx, dgate, dweight, dbias = norm_backward(x, gate, weight, bias, dy.contiguous(), *ctx.options)
    of_bias = None if bias is None else dbias.sum(1).to(bias.dtype)
    return dx, None if gate is None else dgate, dweight.sum(1).to(weight.dtype), of_bias, None, None, None, None, None


norm_forward.register_autograd(_differentiate, setup_context=_remember)
fold_runs(norm_forward)


def _remember_sum(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, added, weight, bias, *ctx.options, _ = inputs
    ctx.save_for_backward(output[0], weight, bias)
    ctx.dtype = added.dtype
    ctx.set_materialize_grads(False)  # where only the norm is read on, zeros for the sum would be written and read


def _differentiate_sum(ctx: Any, dtotal: Tensor | None, dy: Tensor) -> tuple[Tensor | None, ...]:
    total, weight, bias = ctx.saved_tensors
    dtotal = None if dtotal is None else dtotal.contiguous()
    dx, dadded, dweight, dbias = norm_of_sum_backward(total, weight, bias, dtotal, dy.contiguous(), *ctx.options, ctx.dtype)
    of_bias = None if bias is None else dbias.sum(1).to(bias.dtype)
    of_added = dadded if ctx.dtype != total.dtype else dx
    return dx, of_added, dweight.sum(1).to(weight.dtype), of_bias, None, None, None


norm_of_sum_forward.register_autograd(_differentiate_sum, setup_context=_remember_sum)
fold_runs(norm_of_sum_forward)
