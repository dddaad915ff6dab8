"""Mamba-2's recurrence as one kernel forward and one backward.

A program has a sequence, a head and some rows of its state, keeps them in registers, and goes from chunk to chunk, as in
`gt.ops.kernels.wkv6`. With one decay a head, the decays between all pairs of positions of a chunk are the exponentials of
sums over what lies between them (Dao and Gu 2024, listing 1), each sum taken for itself.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels.launch import CHUNK, register, warps

STRONGEST = tl.constexpr(-1e30)  # as in gt.ops.kernels.wkv6
ROWS = 32  # of a program


@triton.jit
def _dot(a, b):
    # Float32 in three parts, 2^-22 or so; at d_state 64 a quarter of the time of exact float32.
    return tl.dot(a, b, input_precision="tf32x3")


@triton.jit
def _segments(w, t, CHUNK: tl.constexpr):
    """The sum of w_j over s < j <= t: (t, s). w: (CHUNK,)."""
    return tl.cumsum(tl.where(t[None, :] < t[:, None], w[:, None], 0.0), axis=0)


@triton.jit
def _forward(
    x, log_w, bb, cc, start, y, last, states, T, H, heads_a_group,
    P: tl.constexpr, N: tl.constexpr, BP: tl.constexpr, CHUNK: tl.constexpr, HAS_START: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    batch, head = program // H, program % H
    groups = H // heads_a_group
    p0 = tl.program_id(1) * BP
    rows, columns, t = p0 + tl.arange(0, BP), tl.arange(0, N), tl.arange(0, CHUNK)
    tile = rows[:, None] * N + columns[None, :]
    if HAS_START:
        S = tl.load(start + program * P * N + tile)
    else:
        S = tl.zeros([BP, N], tl.float32)
    n_chunks = tl.cdiv(T, CHUNK)
    states += program * n_chunks * P * N
    for c in range(n_chunks):
        tl.store(states + c * P * N + tile, S)
        at = (c * CHUNK + t).to(tl.int64)
        there = at < T
        ox = (batch * T * H + head + at * H)[:, None] * P + rows[None, :]
        ob = (batch * T * groups + head // heads_a_group + at * groups)[:, None] * N + columns[None, :]
        x_c = tl.load(x + ox, mask=there[:, None], other=0.0).to(tl.float32)
        b_c = tl.load(bb + ob, mask=there[:, None], other=0.0).to(tl.float32)
        c_c = tl.load(cc + ob, mask=there[:, None], other=0.0).to(tl.float32)
        w_c = tl.maximum(tl.load(log_w + batch * T * H + head + at * H, mask=there, other=0.0).to(tl.float32), STRONGEST)
        L = tl.where(t[None, :] <= t[:, None], tl.exp(_segments(w_c, t, CHUNK)), 0.0)
        A = _dot(c_c, tl.trans(b_c)) * L
        E = tl.exp(tl.cumsum(w_c, axis=0))
        F = tl.exp(tl.sum(tl.where(t[None, :] > t[:, None], w_c[None, :], 0.0), axis=1))
        y_c = _dot(A, x_c) + E[:, None] * _dot(c_c, tl.trans(S))
        tl.store(y + ox, y_c.to(y.dtype.element_ty), mask=there[:, None])
        S = tl.exp(tl.sum(w_c, axis=0)) * S + _dot(tl.trans(x_c), F[:, None] * b_c)
    tl.store(last + program * P * N + tile, S)


@triton.jit
def _backward(
    x, log_w, bb, cc, states, dy, dlast, dx, dlog_w, db, dc, dstart, T, H, heads_a_group, heads,
    P: tl.constexpr, N: tl.constexpr, BP: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    batch, head = program // H, program % H
    groups = H // heads_a_group
    part = tl.program_id(1).to(tl.int64)
    rows, columns, t = part * BP + tl.arange(0, BP), tl.arange(0, N), tl.arange(0, CHUNK)
    tile = rows[:, None] * N + columns[None, :]
    n_chunks = tl.cdiv(T, CHUNK)
    states += program * n_chunks * P * N
    G = tl.load(dlast + program * P * N + tile)
    for done in range(n_chunks):
        c = n_chunks - 1 - done
        S = tl.load(states + c * P * N + tile)
        at = (c * CHUNK + t).to(tl.int64)
        there = at < T
        own = batch * T * H + head + at * H
        ox = own[:, None] * P + rows[None, :]
        ob = (batch * T * groups + head // heads_a_group + at * groups)[:, None] * N + columns[None, :]
        od = (part * heads * T + own)[:, None] * N + columns[None, :]
        x_c = tl.load(x + ox, mask=there[:, None], other=0.0).to(tl.float32)
        b_c = tl.load(bb + ob, mask=there[:, None], other=0.0).to(tl.float32)
        c_c = tl.load(cc + ob, mask=there[:, None], other=0.0).to(tl.float32)
        dy_c = tl.load(dy + ox, mask=there[:, None], other=0.0).to(tl.float32)
        w_c = tl.maximum(tl.load(log_w + own, mask=there, other=0.0).to(tl.float32), STRONGEST)
        L = tl.where(t[None, :] <= t[:, None], tl.exp(_segments(w_c, t, CHUNK)), 0.0)
        E = tl.exp(tl.cumsum(w_c, axis=0))
        F = tl.exp(tl.sum(tl.where(t[None, :] > t[:, None], w_c[None, :], 0.0), axis=1))
        total = tl.exp(tl.sum(w_c, axis=0))
        A = _dot(c_c, tl.trans(b_c)) * L
        dA = _dot(dy_c, tl.trans(x_c))
        dG = dA * L
        c_S, x_G = E[:, None] * _dot(dy_c, S), F[:, None] * _dot(x_c, G)
        tl.store(
            dx + ox,
            (_dot(tl.trans(A), dy_c) + F[:, None] * _dot(b_c, tl.trans(G))).to(dx.dtype.element_ty),
            mask=there[:, None],
        )
        tl.store(dc + od, _dot(dG, b_c) + c_S, mask=there[:, None])
        tl.store(db + od, _dot(tl.trans(dG), c_c) + x_G, mask=there[:, None])
        # w_j acts on pairs s < j <= t, on what is read at t >= j and on what was written at s < j
        between = tl.where(t[None, :] < t[:, None], dA * A, 0.0)  # (t, s)
        e, f = tl.sum(c_S * c_c, axis=1), tl.sum(x_G * b_c, axis=1)
        reached = tl.cumsum(between, axis=0, reverse=True)  # (j, s): sum over t >= j
        dw = tl.sum(tl.where(t[None, :] < t[:, None], reached, 0.0), axis=1) + tl.cumsum(e, axis=0, reverse=True)
        dw += tl.sum(tl.where(t[None, :] < t[:, None], f[None, :], 0.0), axis=1) + total * tl.sum(S * G)
        tl.store(dlog_w + part * heads * T + own, dw, mask=there)
        G = total * G + _dot(tl.trans(E[:, None] * dy_c), c_c)
    tl.store(dstart + program * P * N + tile, G)


@torch.library.custom_op("gt::ssd", mutates_args=())
def ssd_forward(x: Tensor, log_w: Tensor, b: Tensor, c: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, T, H, P), log_w (B, T, H), b, c (B, T, group, N), start (B, H, P, N) or None.

    Returns y like x, the last state (B, H, P, N) in float32, and the states before each chunk (B, H, chunk, P, N).
    """
    (B, T, H, P), (groups, N) = x.shape, b.shape[2:]
    x, log_w, b, c = (t.contiguous() for t in (x, log_w, b, c))
    y, last = torch.empty_like(x), x.new_empty(B, H, P, N, dtype=torch.float32)
    states = x.new_empty(B, H, triton.cdiv(T, CHUNK), P, N, dtype=torch.float32)
    begin = last if start is None else start.contiguous()
    own = min(P, ROWS)
    _forward[(B * H, P // own)](
        x, log_w, b, c, begin, y, last, states, T, H, H // groups, P, N, own, CHUNK, start is not None, num_warps=warps(own, N)
    )  # fmt: skip
    return y, last, states


@torch.library.custom_op("gt::ssd_backward", mutates_args=())
def ssd_backward(
    x: Tensor, log_w: Tensor, b: Tensor, c: Tensor, states: Tensor, dy: Tensor, dlast: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of x, log_w, b, c and start."""
    (B, T, H, P), (groups, N) = x.shape, b.shape[2:]
    x, log_w, b, c, dy, dlast = (t.contiguous() for t in (x, log_w, b, c, dy, dlast))
    own = min(P, ROWS)
    parts = P // own
    dx, dstart = torch.empty_like(x), torch.empty_like(states[:, :, 0]).contiguous()
    dlog_w = x.new_empty(parts, B, T, H, dtype=torch.float32)
    db, dc = (x.new_empty(parts, B, T, groups, H // groups, N, dtype=torch.float32) for _ in range(2))
    _backward[(B * H, parts)](
        x, log_w, b, c, states, dy, dlast, dx, dlog_w, db, dc, dstart, T, H, H // groups, B * H, P, N, own, CHUNK,
        num_warps=warps(own, N),
    )  # fmt: skip
    return dx, dlog_w.sum(0).to(log_w.dtype), db.sum((0, 4)).to(b.dtype), dc.sum((0, 4)).to(c.dtype), dstart


@ssd_forward.register_fake
def _(x: Tensor, log_w: Tensor, b: Tensor, c: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    (B, T, H, P), N = x.shape, b.shape[-1]
    last = x.new_empty(B, H, P, N, dtype=torch.float32)
    return torch.empty_like(x.contiguous()), last, x.new_empty(B, H, -(-T // CHUNK), P, N, dtype=torch.float32)


@ssd_backward.register_fake
def _(
    x: Tensor, log_w: Tensor, b: Tensor, c: Tensor, states: Tensor, dy: Tensor, dlast: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    dx, dlog_w, db, dc = (torch.empty_like(t.contiguous()) for t in (x, log_w, b, c))
    return dx, dlog_w, db, dc, torch.empty_like(states[:, :, 0]).contiguous()


register(ssd_forward, ssd_backward, written=0)


def ssd_chunks(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As `gt.ops.ssd.ssd_reference`; computes in float32, y has x's dtype."""
    y, last, _ = ssd_forward(x * dt.unsqueeze(-1), dt * A, B, C, state)
    return (y if D is None else y + D[:, None] * x).to(x.dtype), last
