"""Mamba-2's recurrence as one kernel forward and one backward.

A program has a sequence, a head and some rows of its state, keeps them in registers, and goes from chunk to chunk, as in
`gt.ops.kernels.wkv6`. With one decay a head, the decays between all pairs of positions of a chunk are the exponentials of
sums over what lies between them (Dao and Gu 2024, listing 1), each sum taken for itself.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels import ssd_bfloat16
from gt.ops.kernels.launch import CHUNK, assert_contiguous, contiguous, register, rounded, warps

STRONGEST = tl.constexpr(-1e30)  # as in gt.ops.kernels.wkv6
ROWS = 64  # of a program


@triton.jit
def _dot(a, b):
    return tl.dot(a, b, input_precision="tf32x3")


@triton.jit
def _segments(w, t, CHUNK: tl.constexpr):
    """The sum of w_j over s < j <= t: (t, s). w: (CHUNK,)."""
    return tl.cumsum(tl.where(t[None, :] < t[:, None], w[:, None], 0.0), axis=0)


@triton.jit
def ssd_forward_kernel(
    x, log_w, bb, cc, start, y, last, states, T, H, heads_a_group,
    P: tl.constexpr, N: tl.constexpr, BP: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """x (B, T, H, P), log_w (B, T, H), bb and cc (B, T, H / heads_a_group, N), start (B, H, P, N) or None -> y as x, last as
    start, and states (B, H, chunk, P, N), each that before a chunk; all contiguous. Programs: (B * H, P / BP).
    """
    program = tl.program_id(0).to(tl.int64)
    batch, head = program // H, program % H
    groups = H // heads_a_group
    rows, columns, t = tl.program_id(1) * BP + tl.arange(0, BP), tl.arange(0, N), tl.arange(0, CHUNK)
    tile = rows[:, None] * N + columns[None, :]
    S = tl.zeros([BP, N], tl.float32)
    if start is not None:
        S += tl.load(start + program * P * N + tile)
    n_chunks = tl.cdiv(T, CHUNK)
    states += program * n_chunks * P * N
    first = batch * T * H + head  # row of position 0, among (batch, time, head)
    shared = (batch * T * groups + head // heads_a_group) * N
    x, y, log_w, bb, cc = x + first * P, y + first * P, log_w + first, bb + shared, cc + shared
    for c in range(n_chunks):
        tl.store(states + c * P * N + tile, S)
        at = c * CHUNK + t
        there = at < T
        ox, ob = (at * H)[:, None] * P + rows[None, :], (at * groups)[:, None] * N + columns[None, :]
        x_c = tl.load(x + ox, mask=there[:, None], other=0.0).to(tl.float32)
        b_c = tl.load(bb + ob, mask=there[:, None], other=0.0).to(tl.float32)
        c_c = tl.load(cc + ob, mask=there[:, None], other=0.0).to(tl.float32)
        w_c = tl.maximum(tl.load(log_w + at * H, mask=there, other=0.0).to(tl.float32), STRONGEST)
        L = tl.where(t[None, :] <= t[:, None], tl.exp(_segments(w_c, t, CHUNK)), 0.0)
        A = _dot(c_c, tl.trans(b_c)) * L
        E = tl.exp(tl.cumsum(w_c, axis=0))
        F = tl.exp(tl.sum(tl.where(t[None, :] > t[:, None], w_c[None, :], 0.0), axis=1))
        y_c = _dot(A, x_c) + E[:, None] * _dot(c_c, tl.trans(S))
        tl.store(y + ox, y_c.to(y.dtype.element_ty), mask=there[:, None])
        S = tl.exp(tl.sum(w_c, axis=0)) * S + _dot(tl.trans(x_c), F[:, None] * b_c)
    tl.store(last + program * P * N + tile, S)


@triton.jit
def ssd_backward_kernel(
    x, log_w, bb, cc, states, dy, dlast, dx, dlog_w, db, dc, dstart, T, H, heads_a_group, heads,
    P: tl.constexpr, N: tl.constexpr, BP: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Of the same shapes the gradients, of which dlog_w, db and dc have a leading dimension of P / BP parts to be summed, and
    the last two a head each in place of a group. G is the gradient of the state after a chunk. Programs: (B * H, P / BP).
    """
    program = tl.program_id(0).to(tl.int64)
    batch, head = program // H, program % H
    groups = H // heads_a_group
    part = tl.program_id(1)
    rows, columns, t = part * BP + tl.arange(0, BP), tl.arange(0, N), tl.arange(0, CHUNK)
    tile = rows[:, None] * N + columns[None, :]
    n_chunks = tl.cdiv(T, CHUNK)
    states += program * n_chunks * P * N
    first = batch * T * H + head
    shared = (batch * T * groups + head // heads_a_group) * N
    of_part = part.to(tl.int64) * heads * T + first
    x, dy, dx, log_w, bb, cc = x + first * P, dy + first * P, dx + first * P, log_w + first, bb + shared, cc + shared
    dlog_w, db, dc = dlog_w + of_part, db + of_part * N, dc + of_part * N
    G = tl.zeros([BP, N], tl.float32)
    if dlast is not None:
        G += tl.load(dlast + program * P * N + tile)
    for done in range(n_chunks):
        c = n_chunks - 1 - done
        S = tl.load(states + c * P * N + tile)
        at = c * CHUNK + t
        there = at < T
        ox, ob = (at * H)[:, None] * P + rows[None, :], (at * groups)[:, None] * N + columns[None, :]
        od = (at * H)[:, None] * N + columns[None, :]
        x_c = tl.load(x + ox, mask=there[:, None], other=0.0).to(tl.float32)
        b_c = tl.load(bb + ob, mask=there[:, None], other=0.0).to(tl.float32)
        c_c = tl.load(cc + ob, mask=there[:, None], other=0.0).to(tl.float32)
        dy_c = tl.load(dy + ox, mask=there[:, None], other=0.0).to(tl.float32)
        w_c = tl.maximum(tl.load(log_w + at * H, mask=there, other=0.0).to(tl.float32), STRONGEST)
        L = tl.where(t[None, :] <= t[:, None], tl.exp(_segments(w_c, t, CHUNK)), 0.0)
        E = tl.exp(tl.cumsum(w_c, axis=0))
        F = tl.exp(tl.sum(tl.where(t[None, :] > t[:, None], w_c[None, :], 0.0), axis=1))
        total = tl.exp(tl.sum(w_c, axis=0))
        A = _dot(c_c, tl.trans(b_c)) * L
        dA = _dot(dy_c, tl.trans(x_c))
        dG = dA * L
        c_S, x_G = E[:, None] * _dot(dy_c, S), F[:, None] * _dot(x_c, G)
        dx_c = _dot(tl.trans(A), dy_c) + F[:, None] * _dot(b_c, tl.trans(G))
        tl.store(dx + ox, dx_c.to(dx.dtype.element_ty), mask=there[:, None])
        tl.store(dc + od, _dot(dG, b_c) + c_S, mask=there[:, None])
        tl.store(db + od, _dot(tl.trans(dG), c_c) + x_G, mask=there[:, None])
        # w_j acts on pairs s < j <= t, on what is read at t >= j and on what was written at s < j
        between = tl.where(t[None, :] < t[:, None], dA * A, 0.0)  # (t, s)
        e, f = tl.sum(c_S * c_c, axis=1), tl.sum(x_G * b_c, axis=1)
        reached = tl.cumsum(between, axis=0, reverse=True)  # (j, s): sum over t >= j
        dw = tl.sum(tl.where(t[None, :] < t[:, None], reached, 0.0), axis=1) + tl.cumsum(e, axis=0, reverse=True)
        dw += tl.sum(tl.where(t[None, :] < t[:, None], f[None, :], 0.0), axis=1) + total * tl.sum(S * G)
        tl.store(dlog_w + at * H, dw, mask=there)
        G = total * G + _dot(tl.trans(E[:, None] * dy_c), c_c)
    if dstart is not None:
        tl.store(dstart + program * P * N + tile, G)


def _results(x: Tensor, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Room for y, the last state and the states before each chunk."""
    B, T, H, P = x.shape
    last = x.new_empty(B, H, P, columns, dtype=torch.float32)
    return torch.empty_like(x), last, x.new_empty(B, H, -(-T // CHUNK), P, columns, dtype=torch.float32)


def _gradients(x: Tensor, b: Tensor, started: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Room for those of x, log_w, b, c and start; of log_w, b and c in parts that are to be summed."""
    (B, T, H, P), (groups, N) = x.shape, b.shape[2:]
    parts = P // min(P, ROWS)
    of_b = (parts, B, T, groups, H // groups, N)
    shapes = [(parts, B, T, H), of_b, of_b, (B, H, P, N) if started else 0]
    dlog_w, db, dc, dstart = (x.new_empty(shape, dtype=torch.float32) for shape in shapes)
    return torch.empty_like(x), dlog_w, db, dc, dstart


@torch.library.custom_op("gt::ssd", mutates_args=())
def ssd_forward(x: Tensor, log_w: Tensor, b: Tensor, c: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, T, H, P), log_w (B, T, H), b, c (B, T, group, N), start (B, H, P, N) or None, all contiguous.

    Returns y like x, the last state (B, H, P, N) in float32, and the states before each chunk (B, H, chunk, P, N).
    """
    (B, T, H, P), (groups, N) = x.shape, b.shape[2:]
    assert_contiguous(x, log_w, b, c, start)
    results = _results(x, N)
    own = min(P, ROWS)
    ssd_forward_kernel[(B * H, P // own)](
        x, log_w, b, c, start, *results, T, H, H // groups, P, N, own, CHUNK,
        num_warps=warps(own * N), num_stages=1,
    )  # fmt: skip
    return results


@torch.library.custom_op("gt::ssd_backward", mutates_args=())
def ssd_backward(
    x: Tensor, log_w: Tensor, b: Tensor, c: Tensor, states: Tensor, dy: Tensor, dlast: Tensor | None, started: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of x, log_w, b, c and, if started, start.

    Those of log_w (part, B, T, H), b and c (part, B, T, group, head of it, N) in float32, each the sum of what it has there.
    """
    (B, T, H, P), (groups, N) = x.shape, b.shape[2:]
    assert_contiguous(x, log_w, b, c, states, dy, dlast)
    *others, dstart = gradients = _gradients(x, b, started)
    own = min(P, ROWS)
    ssd_backward_kernel[(B * H, P // own)](
        x, log_w, b, c, states, dy, dlast, *others, dstart if started else None, T, H, H // groups, B * H, P, N, own, CHUNK,
        num_warps=warps(own * N), num_stages=1,
    )  # fmt: skip
    return gradients


@ssd_forward.register_fake
def _(x: Tensor, log_w: Tensor, b: Tensor, c: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    return _results(x, b.shape[-1])


@ssd_backward.register_fake
def _(
    x: Tensor, log_w: Tensor, b: Tensor, c: Tensor, states: Tensor, dy: Tensor, dlast: Tensor | None, started: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _gradients(x, b, started)


def _differentiated(x: Tensor, log_w: Tensor, b: Tensor, c: Tensor, *others: Any) -> tuple[Tensor, ...]:
    dx, dlog_w, db, dc, dstart = ssd_backward(x, log_w, b, c, *others)
    return dx, dlog_w.sum(0).to(log_w.dtype), db.sum((0, 4)).to(b.dtype), dc.sum((0, 4)).to(c.dtype), dstart


register(ssd_forward, _differentiated, written=0)


def ssd_chunks(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As `gt.ops.ssd.ssd_reference`, y has x's dtype; in float32, or of bfloat16 activations in bfloat16."""
    if rounded(B):
        skip = A.new_zeros(1, *A.shape) if D is None else D.unsqueeze(0)
        y, last, _ = ssd_bfloat16.ssd_forward(x, *(contiguous(m) for m in (dt, dt * A)), B, C, skip, contiguous(state))
        return y, last
    y, last, _ = ssd_forward(*(contiguous(m) for m in (x * dt.unsqueeze(-1), dt * A, B, C, state)))
    return (y if D is None else y + D[:, None] * x).to(x.dtype), last
