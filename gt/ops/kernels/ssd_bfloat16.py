"""Mamba-2's recurrence of bfloat16 activations: products on the matrix units in bfloat16, states and sums in float32.

A program has a sequence and a head, and goes from chunk to chunk of up to 64 positions. Inside, the whole is a masked product
(Dao and Gu 2024, arXiv:2405.21060, section 6): y = (C B^T * L * dt) x + D x, with L_ts = exp(sum of log w_j over s < j <= t),
which is the exponential of a difference of sums. Where no decay a token is stronger than e^-40 these sums are at most 2560, of
which float32 keeps 1e-4; a stronger one is held there, and its gradient put right by what was held back.

Of sequences that are one chunk and start from nothing no state leaves the kernel but the last.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels.launch import apart, assert_contiguous, register
from gt.ops.kernels.products import product

STRONGEST = tl.constexpr(-40.0)
LONGEST = 64  # positions at once


@triton.jit
def _decays(log_w, at, H, there, t, CHUNK: tl.constexpr):
    w = tl.load(log_w + at * H, mask=there, other=0.0)
    held = tl.maximum(w, STRONGEST)
    cum = tl.cumsum(held, axis=0)
    L = tl.where(t[None, :] <= t[:, None], tl.exp(cum[:, None] - cum[None, :]), 0.0)
    return w, held, cum, L


@triton.jit
def ssd_forward_kernel(
    x, dt, log_w, bb, cc, D, start, y, last, states, T, H, of_x, of_b, of_D, heads_a_group, per_run,
    P: tl.constexpr, N: tl.constexpr, CHUNK: tl.constexpr, CARRY: tl.constexpr,
):  # fmt: skip
    """x (B, T, H, P) and bb and cc (B, T, H / heads_a_group, N), whose positions stand of_x and of_b numbers apart, dt and
    log_w (B, T, H), D (B / per_run, H) of runs that stand of_D apart, start (B, H, P, N) or None -> y as x, last as start, and,
    if they are carried, states (B, H, chunk, P, N), each that before a chunk. Programs: (B * H).
    """
    program = tl.program_id(0).to(tl.int64)
    batch, head = program // H, program % H
    rows, columns, t = tl.arange(0, P), tl.arange(0, N), tl.arange(0, CHUNK)
    tile = rows[:, None] * N + columns[None, :]
    S = tl.zeros([P, N], tl.float32)
    if start is not None:
        S += tl.load(start + program * P * N + tile)
    n_chunks = tl.cdiv(T, CHUNK)
    first = batch * T * H + head
    shared = batch * T * of_b + head // heads_a_group * N
    x, bb, cc = x + batch * T * of_x + head * P, bb + shared, cc + shared
    y, dt, log_w = y + first * P, dt + first, log_w + first
    if CARRY:
        states += program * n_chunks * P * N
    skip = tl.load(D + batch // per_run * of_D + head)
    for c in range(n_chunks):
        at = c * CHUNK + t
        there = at < T
        ob = (at * of_b)[:, None] + columns[None, :]
        x_c = tl.load(x + (at * of_x)[:, None] + rows[None, :], mask=there[:, None], other=0.0)
        b_c = tl.load(bb + ob, mask=there[:, None], other=0.0)
        c_c = tl.load(cc + ob, mask=there[:, None], other=0.0)
        dt_c = tl.load(dt + at * H, mask=there, other=0.0)
        w, held, cum, L = _decays(log_w, at, H, there, t, CHUNK)
        M = product(c_c, tl.trans(b_c)) * L * dt_c[None, :]
        y_c = product(M, x_c) + skip * x_c.to(tl.float32)
        if CARRY:
            tl.store(states + c * P * N + tile, S)
            y_c += tl.exp(cum)[:, None] * product(c_c, tl.trans(S))
        tl.store(y + (at * H)[:, None] * P + rows[None, :], y_c.to(tl.bfloat16), mask=there[:, None])
        total = tl.sum(held, axis=0)
        F = tl.exp(total - cum) * dt_c
        S = tl.exp(total) * S + product(tl.trans(F[:, None] * x_c.to(tl.float32)), b_c)
    tl.store(last + program * P * N + tile, S)


@triton.jit
def ssd_backward_kernel(
    x, dt, log_w, bb, cc, D, states, dy, dlast, dx, ddt, dlog_w, db, dc, dD, dstart, T, H, of_x, of_b, of_D, heads_a_group,
    per_run, P: tl.constexpr, N: tl.constexpr, CHUNK: tl.constexpr, CARRY: tl.constexpr,
):  # fmt: skip
    """Of the same shapes the gradients, of which db and dc are a head's, (B, T, H, N), and dD a sequence's, (B, H). G is the
    gradient of the state after a chunk. Programs: (B * H).
    """
    program = tl.program_id(0).to(tl.int64)
    batch, head = program // H, program % H
    rows, columns, t = tl.arange(0, P), tl.arange(0, N), tl.arange(0, CHUNK)
    tile = rows[:, None] * N + columns[None, :]
    n_chunks = tl.cdiv(T, CHUNK)
    first = batch * T * H + head
    shared = batch * T * of_b + head // heads_a_group * N
    x, dy, dx = x + batch * T * of_x + head * P, dy + first * P, dx + first * P
    dt, ddt = dt + first, ddt + first
    log_w, dlog_w, bb, cc, db, dc = log_w + first, dlog_w + first, bb + shared, cc + shared, db + first * N, dc + first * N
    if CARRY:
        states += program * n_chunks * P * N
    skip = tl.load(D + batch // per_run * of_D + head)
    own = tl.zeros([CHUNK], tl.float32)
    G = tl.zeros([P, N], tl.float32)
    if dlast is not None:
        G += tl.load(dlast + program * P * N + tile)
    for done in range(n_chunks):
        c = n_chunks - 1 - done
        at = c * CHUNK + t
        there = at < T
        ox, ob = (at * H)[:, None] * P + rows[None, :], (at * of_b)[:, None] + columns[None, :]
        od = (at * H)[:, None] * N + columns[None, :]
        x_c = tl.load(x + (at * of_x)[:, None] + rows[None, :], mask=there[:, None], other=0.0)
        dy_c = tl.load(dy + ox, mask=there[:, None], other=0.0)
        b_c = tl.load(bb + ob, mask=there[:, None], other=0.0)
        c_c = tl.load(cc + ob, mask=there[:, None], other=0.0)
        dt_c = tl.load(dt + at * H, mask=there, other=0.0)
        w, held, cum, L = _decays(log_w, at, H, there, t, CHUNK)
        A = product(c_c, tl.trans(b_c)) * L
        dA = product(dy_c, tl.trans(x_c))
        Z = dA * A
        ddt_c = tl.sum(Z, axis=0)
        Z = tl.where(t[None, :] < t[:, None], Z * dt_c[None, :], 0.0)
        d_cum = tl.sum(Z, axis=1) - tl.sum(Z, axis=0)
        dC = (dA * L * dt_c[None, :]).to(tl.bfloat16)
        M = (A * dt_c[None, :]).to(tl.bfloat16)
        total = tl.sum(held, axis=0)
        dw = tl.zeros([CHUNK], tl.float32)
        dc_c = product(dC, b_c)
        if CARRY:
            S = tl.load(states + c * P * N + tile)
            dw += tl.exp(total) * tl.sum(S * G)
            c_S = tl.exp(cum)[:, None] * product(dy_c, S)
            d_cum += tl.sum(c_S * c_c.to(tl.float32), axis=1)
            dc_c += c_S
        tl.store(dc + od, dc_c.to(tl.bfloat16), mask=there[:, None])
        db_c = product(tl.trans(dC), c_c)
        if CARRY or dlast is not None:
            F = tl.exp(total - cum)
            x_G = F[:, None] * product(x_c, G)
            f = tl.sum(x_G * b_c.to(tl.float32), axis=1)
            ddt_c += f
            f *= dt_c
            dw += tl.cumsum(f, axis=0) - f
            db_c += dt_c[:, None] * x_G
        tl.store(db + od, db_c.to(tl.bfloat16), mask=there[:, None])
        dx_c = product(tl.trans(M), dy_c)
        if CARRY or dlast is not None:
            dx_c += (F * dt_c)[:, None] * product(b_c, tl.trans(G))
        own += tl.sum(dy_c.to(tl.float32) * x_c.to(tl.float32), axis=1)
        tl.store(dx + ox, (dx_c + skip * dy_c.to(tl.float32)).to(tl.bfloat16), mask=there[:, None])
        read = tl.exp(cum)[:, None] * dy_c.to(tl.float32)
        G = tl.exp(total) * G + product(tl.trans(read), c_c)
        dw += tl.cumsum(d_cum, axis=0, reverse=True)
        tl.store(dlog_w + at * H, dw * tl.exp(w - held), mask=there)
        tl.store(ddt + at * H, ddt_c, mask=there)
    tl.store(dD + program, tl.sum(own, axis=0))
    if dstart is not None:
        tl.store(dstart + program * P * N + tile, G)


def chunk_of(time: int) -> int:
    """Positions at once."""
    return min(LONGEST, max(16, triton.next_power_of_2(time)))


def _results(x: Tensor, columns: int, started: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Room for y, the last state and the states before each chunk, none if there is but one chunk that starts from nothing."""
    B, T, H, P = x.shape
    chunks = -(-T // chunk_of(T))
    last = x.new_empty(B, H, P, columns, dtype=torch.float32)
    return (
        x.new_empty(x.shape),
        last,
        x.new_empty(B, H, chunks if started or chunks > 1 else 0, P, columns, dtype=torch.float32),
    )


def _gradients(x: Tensor, dt: Tensor, b: Tensor, started: bool) -> tuple[Tensor, ...]:
    """Room for those of x, dt, log_w, b, c, D and start; of b and c a head's, of D a sequence's."""
    (B, T, H, P), N = x.shape, b.shape[-1]
    db, dc = (b.new_empty(B, T, H, N) for _ in "bc")
    ddt, dlog_w = (torch.empty_like(dt) for _ in range(2))
    return x.new_empty(x.shape), ddt, dlog_w, db, dc, dt.new_empty(B, H), dt.new_empty((B, H, P, N) if started else 0)


@torch.library.custom_op("gt::ssd_bfloat16", mutates_args=())
def ssd_forward(
    x: Tensor, dt: Tensor, log_w: Tensor, b: Tensor, c: Tensor, D: Tensor, start: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, T, H, P), b, c (B, T, group, N) in bfloat16, dt, log_w (B, T, H), D (R, H), start (B, H, P, N) or None in
    float32; row i has the D of run i // (B / R). All contiguous.

    Returns y like x, the last state (B, H, P, N) in float32, and the states before each chunk (B, H, chunk, P, N).
    """
    (B, T, H, P), (groups, N) = x.shape, b.shape[2:]
    assert_contiguous(dt, log_w, start)
    assert apart(b.flatten(2)) == apart(c.flatten(2)), "B and C lie alike"
    y, last, states = _results(x, N, start is not None)
    carry = states.numel() > 0
    ssd_forward_kernel[(B * H,)](
        x, dt, log_w, b, c, D, start, y, last, states if carry else None, T, H, apart(x.flatten(2)), apart(b.flatten(2)),
        apart(D), H // groups, B // D.shape[0], P, N, chunk_of(T), carry, num_warps=4, num_stages=1,
    )  # fmt: skip
    return y, last, states


@torch.library.custom_op("gt::ssd_bfloat16_backward", mutates_args=())
def ssd_backward(
    x: Tensor, dt: Tensor, log_w: Tensor, b: Tensor, c: Tensor, D: Tensor, states: Tensor, dy: Tensor, dlast: Tensor | None,
    started: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of x, dt (but for its part in log_w), log_w, b, c, D and start: of b and c a head's (B, T, H, N), of D a
    sequence's (B, H), and of start none unless started.
    """
    (B, T, H, P), (groups, N) = x.shape, b.shape[2:]
    assert_contiguous(dt, log_w, states, dy, dlast)
    *others, dstart = gradients = _gradients(x, dt, b, started)
    carry = states.numel() > 0
    ssd_backward_kernel[(B * H,)](
        x, dt, log_w, b, c, D, states if carry else None, dy, dlast, *others, dstart if started else None, T, H,
        apart(x.flatten(2)), apart(b.flatten(2)), apart(D), H // groups, B // D.shape[0], P, N, chunk_of(T), carry,
        num_warps=4 if P * N <= 4096 else 8, num_stages=1,
    )  # fmt: skip
    return gradients  # type: ignore[return-value]


@ssd_forward.register_fake
def _(
    x: Tensor, dt: Tensor, log_w: Tensor, b: Tensor, c: Tensor, D: Tensor, start: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    return _results(x, b.shape[-1], start is not None)


@ssd_backward.register_fake
def _(
    x: Tensor, dt: Tensor, log_w: Tensor, b: Tensor, c: Tensor, D: Tensor, states: Tensor, dy: Tensor, dlast: Tensor | None,
    started: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    return _gradients(x, dt, b, started)


def _differentiated(x: Tensor, dt: Tensor, log_w: Tensor, b: Tensor, c: Tensor, D: Tensor, *others: Any) -> tuple[Tensor, ...]:
    dx, ddt, dlog_w, db, dc, dD, dstart = ssd_backward(x, dt, log_w, b, c, D, *others)
    db, dc = (d.unflatten(2, (b.shape[2], -1)).sum(3) for d in (db, dc))
    return dx, ddt, dlog_w, db, dc, dD.unflatten(0, (D.shape[0], -1)).sum(1), dstart


register(ssd_forward, _differentiated, written=0, strided=True)
