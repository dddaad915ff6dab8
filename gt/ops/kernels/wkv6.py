"""RWKV-6's recurrence as one kernel forward and one backward.

A program has a sequence and a head (forward: and some of its values), keeps the state in registers, and goes from chunk to
chunk. Inside a chunk each pair of positions gets the decays between them as two factors that meet in the middle of the halving
which separates the pair (`gt.ops.chunks.halvings`), so every exponent is a sum of non-positive numbers: nothing overflows or
cancels, however strong a decay is, and none is lost, however weak.

The forward pass leaves the state before every chunk, so the backward pass goes through the chunks once, from the last to the
first. No two programs add to one place: what several share leaves the kernel in parts.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels import wkv6_bfloat16
from gt.ops.kernels.halvings import LEVELS, LOG2_E, separated, to_middle
from gt.ops.kernels.launch import CHUNK, assert_contiguous, contiguous, register, rounded, warps

# No decay of float32 is stronger; a sum that leaves one out must not make 0 times infinity of it.
STRONGEST = tl.constexpr(-1e30)
VALUES = 32  # of a forward program


@triton.jit
def _dot(a, b):
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def wkv6_forward_kernel(
    r, k, v, log_w, u, start, y, last, states, T, H, per_group,
    K: tl.constexpr, V: tl.constexpr, BV: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """r, k and log_w (B, T, H, K), v (B, T, H, V), u (B / per_group, H, K), start (B, H, K, V) or None -> y as v, last as
    start, and states (B, H, chunk, K, V), each that before a chunk; all contiguous. Programs: (B * H, V / BV).
    """
    program = tl.program_id(0).to(tl.int64)
    b, h = program // H, program % H
    keys, values, t = tl.arange(0, K), tl.program_id(1) * BV + tl.arange(0, BV), tl.arange(0, CHUNK)
    col, row = t[:, None], t[None, :]
    tile = keys[:, None] * V + values[None, :]
    bonus = tl.load(u + ((b // per_group) * H + h) * K + keys)
    S = tl.zeros([K, BV], tl.float32)
    if start is not None:
        S += tl.load(start + program * K * V + tile)
    n_chunks = tl.cdiv(T, CHUNK)
    states += program * n_chunks * K * V
    first = b * T * H + h  # row of position 0, among (batch, time, head)
    r, k, log_w = r + first * K, k + first * K, log_w + first * K
    v, y = v + first * V, y + first * V
    before, after = (row < col).to(tl.float32), (row > col).to(tl.float32)
    for c in range(n_chunks):
        tl.store(states + c * K * V + tile, S)
        at = c * CHUNK + t
        there = (at < T)[:, None]
        ok, ov = (at * H)[:, None] * K + keys[None, :], (at * H)[:, None] * V + values[None, :]
        r_c = tl.load(r + ok, mask=there, other=0.0).to(tl.float32)
        k_c = tl.load(k + ok, mask=there, other=0.0).to(tl.float32)
        v_c = tl.load(v + ov, mask=there, other=0.0).to(tl.float32)
        w_c = tl.maximum(tl.load(log_w + ok, mask=there, other=0.0).to(tl.float32), STRONGEST) * LOG2_E
        A = tl.where(col == row, tl.sum(r_c * bonus[None, :] * k_c, axis=1)[:, None], 0.0)
        for level in tl.static_range(LEVELS):
            X = tl.where((col >> level) & 1 == 1, r_c, k_c)  # readers are late in their block, writers early
            if level > 0:
                X *= tl.exp2(_dot(to_middle(col, row, level), w_c))
            A += tl.where(separated(col, row, level) & (row < col), _dot(X, tl.trans(X)), 0.0)
        E, F = tl.exp2(_dot(before, w_c)), tl.exp2(_dot(after, w_c))
        y_c = _dot(A, v_c) + _dot(r_c * E, S)
        tl.store(y + ov, y_c.to(y.dtype.element_ty), mask=there)
        S = tl.exp2(tl.sum(w_c, axis=0))[:, None] * S + _dot(tl.trans(k_c * F), v_c)
    tl.store(last + program * K * V + tile, S)


@triton.jit
def wkv6_backward_kernel(
    r, k, v, log_w, u, states, dy, dlast, dr, dk, dv, dlog_w, du, dstart, T, H, per_group,
    K: tl.constexpr, V: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Of the same shapes the gradients, from the last chunk to the first; du is a sequence's, (B, H, K). Programs: (B * H)."""
    program = tl.program_id(0).to(tl.int64)
    b, h = program // H, program % H
    keys, values, t = tl.arange(0, K), tl.arange(0, V), tl.arange(0, CHUNK)
    col, row = t[:, None], t[None, :]
    tile = keys[:, None] * V + values[None, :]
    bonus = tl.load(u + ((b // per_group) * H + h) * K + keys)
    n_chunks = tl.cdiv(T, CHUNK)
    states += program * n_chunks * K * V
    first = b * T * H + h
    r, k, log_w, dr, dk, dlog_w = (
        r + first * K, k + first * K, log_w + first * K, dr + first * K, dk + first * K, dlog_w + first * K,
    )  # fmt: skip
    v, dy, dv = v + first * V, dy + first * V, dv + first * V
    G = tl.zeros([K, V], tl.float32)
    if dlast is not None:
        G += tl.load(dlast + program * K * V + tile)
    du_sum = tl.zeros([CHUNK, K], tl.float32)
    before, after = (row < col).to(tl.float32), (row > col).to(tl.float32)
    for done in range(n_chunks):
        c = n_chunks - 1 - done
        S = tl.load(states + c * K * V + tile)
        at = c * CHUNK + t
        there = (at < T)[:, None]
        ok, ov = (at * H)[:, None] * K + keys[None, :], (at * H)[:, None] * V + values[None, :]
        r_c = tl.load(r + ok, mask=there, other=0.0).to(tl.float32)
        k_c = tl.load(k + ok, mask=there, other=0.0).to(tl.float32)
        v_c = tl.load(v + ov, mask=there, other=0.0).to(tl.float32)
        dy_c = tl.load(dy + ov, mask=there, other=0.0).to(tl.float32)
        w_c = tl.maximum(tl.load(log_w + ok, mask=there, other=0.0).to(tl.float32), STRONGEST) * LOG2_E
        dA = _dot(dy_c, tl.trans(v_c))
        d_own = tl.sum(tl.where(col == row, dA, 0.0), axis=1)[:, None]
        dA = tl.where(row < col, dA, _dot(v_c, tl.trans(dy_c)))  # of a pair, whichever of the two comes first
        E, F = tl.exp2(_dot(before, w_c)), tl.exp2(_dot(after, w_c))
        kept = tl.exp2(tl.sum(w_c, axis=0))
        rE, kF = r_c * E, k_c * F
        d_rE, d_kF = _dot(dy_c, tl.trans(S)), _dot(v_c, tl.trans(G))
        dr_c = d_own * bonus[None, :] * k_c + E * d_rE
        dk_c = d_own * bonus[None, :] * r_c + F * d_kF
        du_sum += d_own * r_c * k_c
        # w_j acts on what is read after j and written before: E_t for t > j, F_s for s < j
        dw_c = _dot(after, rE * d_rE) + _dot(before, kF * d_kF)
        dw_c += (kept * tl.sum(S * G, axis=1))[None, :]
        A_t = tl.where(col == row, tl.sum(r_c * bonus[None, :] * k_c, axis=1)[:, None], 0.0)
        for level in tl.static_range(LEVELS):
            late, pair = (col >> level) & 1 == 1, separated(col, row, level)
            D = 1.0
            if level > 0:
                D = tl.exp2(_dot(to_middle(col, row, level), w_c))
            X = tl.where(late, r_c, k_c) * D
            A_t += tl.where(pair & (row > col), _dot(X, tl.trans(X)), 0.0)
            dX = _dot(tl.where(pair, dA, 0.0), X)
            dr_c += tl.where(late, D * dX, 0.0)
            dk_c += tl.where(late, 0.0, D * dX)
            if level > 0:
                dw_c += _dot(to_middle(row, col, level), X * dX)
        dv_c = _dot(kF, G) + _dot(A_t, dy_c)
        tl.store(dr + ok, dr_c.to(dr.dtype.element_ty), mask=there)
        tl.store(dk + ok, dk_c.to(dk.dtype.element_ty), mask=there)
        tl.store(dv + ov, dv_c.to(dv.dtype.element_ty), mask=there)
        tl.store(dlog_w + ok, dw_c.to(dlog_w.dtype.element_ty), mask=there)
        G = kept[:, None] * G + _dot(tl.trans(rE), dy_c)
    tl.store(du + program * K + keys, tl.sum(du_sum, axis=0))
    if dstart is not None:
        tl.store(dstart + program * K * V + tile, G)


def _results(v: Tensor, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    """Room for y, the last state and the states before each chunk."""
    B, T, H, V = v.shape
    last = v.new_empty(B, H, keys, V, dtype=torch.float32)
    return torch.empty_like(v), last, v.new_empty(B, H, -(-T // CHUNK), keys, V, dtype=torch.float32)


def _gradients(
    r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, started: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Room for those of r, k, v, log_w, u and start; that of u has a part for each sequence."""
    (B, _, H, K), V = r.shape, v.shape[-1]
    du, dstart = (v.new_empty(shape, dtype=torch.float32) for shape in ((B, H, K), (B, H, K, V) if started else 0))
    dr, dk, dv, dlog_w = (torch.empty_like(t) for t in (r, k, v, log_w))
    return dr, dk, dv, dlog_w, du, dstart


@torch.library.custom_op("gt::wkv6", mutates_args=())
def wkv6_forward(
    r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, start: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """r, k, log_w (B, T, H, K), v (B, T, H, V), u (G, H, K), start (B, H, K, V) or None; row b has the u of run b // (B / G).

    All contiguous. Returns y like v, the last state (B, H, K, V) in float32, and the states before each chunk (B, H, chunk,
    K, V).
    """
    (B, T, H, K), V = r.shape, v.shape[-1]
    assert_contiguous(r, k, v, log_w, u, start)
    results = _results(v, K)
    own = min(V, VALUES)
    wkv6_forward_kernel[(B * H, V // own)](
        r, k, v, log_w, u, start, *results, T, H, B // u.shape[0], K, V, own, CHUNK,
        num_warps=warps(K * own), num_stages=1,
    )  # fmt: skip
    return results


@torch.library.custom_op("gt::wkv6_backward", mutates_args=())
def wkv6_backward(
    r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, states: Tensor, dy: Tensor, dlast: Tensor | None, started: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of r, k, v, log_w, u and, if started, start; that of u has a part for each sequence, (B, H, K)."""
    (B, T, H, K), V = r.shape, v.shape[-1]
    assert_contiguous(r, k, v, log_w, u, states, dy, dlast)
    *others, dstart = gradients = _gradients(r, k, v, log_w, started)
    wkv6_backward_kernel[(B * H,)](
        r, k, v, log_w, u, states, dy, dlast, *others, dstart if started else None, T, H, B // u.shape[0], K, V, CHUNK,
        num_warps=warps(K * V), num_stages=1,
    )  # fmt: skip
    return gradients


@wkv6_forward.register_fake
def _(r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    return _results(v, r.shape[-1])


@wkv6_backward.register_fake
def _(
    r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, states: Tensor, dy: Tensor, dlast: Tensor | None, started: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _gradients(r, k, v, log_w, started)


def _differentiated(r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, *others: Any) -> tuple[Tensor, ...]:
    *of_series, du, dstart = wkv6_backward(r, k, v, log_w, u, *others)
    return *of_series, du.unflatten(0, (u.shape[0], -1)).sum(1).to(u.dtype), dstart


register(wkv6_forward, _differentiated, written=2)


def wkv6_chunks(
    r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As `gt.ops.wkv6.wkv6_reference`, y has v's dtype; in float32, or of bfloat16 activations in bfloat16."""
    forward = wkv6_bfloat16.wkv6_forward if rounded(v) else wkv6_forward
    y, last, _ = forward(*(contiguous(x) for x in (r, k, v, log_w, u.unsqueeze(0), state)))
    return y, last
