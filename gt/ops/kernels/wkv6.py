"""RWKV-6's recurrence as one kernel forward and one backward.

A program has a sequence and a head (forward: and some of its values), keeps the state in registers, and goes from chunk to
chunk. Inside a chunk each pair of positions gets the decays between them as two factors that meet in the middle of the halving
which separates the pair (`gt.ops.chunks.halvings`), so every exponent is a sum of non-positive numbers: nothing overflows or
cancels, however strong a decay is, and none is lost, however weak.

The forward pass leaves the state before every chunk, so the backward pass goes through the chunks once, from the last to the
first. No two programs add to one place: what several share leaves the kernel in parts.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels.launch import CHUNK, register, warps

# No decay of float32 is stronger; a sum that leaves one out must not make 0 times infinity of it.
STRONGEST = tl.constexpr(-1e30)
# Halvings of a chunk of 16.
LEVELS = tl.constexpr(4)
VALUES = 32  # of a forward program


@triton.jit
def _dot(a, b):
    # Small products of exact float32: on tensor cores in three parts they took 1.5 times as long.
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def _to_middle(t, j, half):
    """1 where position j lies between t and the middle of t's block of 2 half positions, the middle counted as after it."""
    middle = t // (2 * half) * (2 * half) + half
    late = t >= middle
    return tl.where(late, (j >= middle) & (j < t), (j > t) & (j < middle)).to(tl.float32)


@triton.jit
def _pairs(t, s, half):
    """Where s is before the middle of a block that t is in, and t is not."""
    middle = t // (2 * half) * (2 * half) + half
    same = middle == s // (2 * half) * (2 * half) + half
    return same & (t >= middle) & (s < middle)


@triton.jit
def _forward(
    r, k, v, log_w, u, start, y, last, states, T, H, per_group,
    K: tl.constexpr, V: tl.constexpr, BV: tl.constexpr, CHUNK: tl.constexpr, HAS_START: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    b, h = program // H, program % H
    v0 = tl.program_id(1) * BV
    keys, values, t = tl.arange(0, K), v0 + tl.arange(0, BV), tl.arange(0, CHUNK)
    col, row = t[:, None], t[None, :]
    tile = keys[:, None] * V + values[None, :]
    bonus = tl.load(u + ((b // per_group) * H + h) * K + keys)
    if HAS_START:
        S = tl.load(start + program * K * V + tile)
    else:
        S = tl.zeros([K, BV], tl.float32)
    n_chunks = tl.cdiv(T, CHUNK)
    states += program * n_chunks * K * V
    base = b * T * H + h
    until = (row < col).to(tl.float32)  # before t
    after = (row > col).to(tl.float32)
    for c in range(n_chunks):
        tl.store(states + c * K * V + tile, S)
        at = c * CHUNK + t
        there = (at < T)[:, None]
        ok = (base + at.to(tl.int64) * H)[:, None] * K + keys[None, :]
        ov = (base + at.to(tl.int64) * H)[:, None] * V + values[None, :]
        r_c = tl.load(r + ok, mask=there, other=0.0).to(tl.float32)
        k_c = tl.load(k + ok, mask=there, other=0.0).to(tl.float32)
        v_c = tl.load(v + ov, mask=there, other=0.0).to(tl.float32)
        w_c = tl.maximum(tl.load(log_w + ok, mask=there, other=0.0).to(tl.float32), STRONGEST)
        A = tl.zeros([CHUNK, CHUNK], tl.float32)
        for level in tl.static_range(LEVELS):
            half = 1 << level
            D = tl.exp(_dot(_to_middle(col, row, half), w_c))
            A += tl.where(_pairs(col, row, half), _dot(r_c * D, tl.trans(k_c * D)), 0.0)
        own = tl.sum(r_c * bonus[None, :] * k_c, axis=1)
        E, F = tl.exp(_dot(until, w_c)), tl.exp(_dot(after, w_c))
        y_c = _dot(A, v_c) + own[:, None] * v_c + _dot(r_c * E, S)
        tl.store(y + ov, y_c.to(y.dtype.element_ty), mask=there)
        kept = tl.exp(tl.sum(w_c, axis=0))
        S = kept[:, None] * S + _dot(tl.trans(k_c * F), v_c)
    tl.store(last + program * K * V + tile, S)


@triton.jit
def _backward(
    r, k, v, log_w, u, states, dy, dlast, dr, dk, dv, dlog_w, du, dstart, T, H, per_group,
    K: tl.constexpr, V: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    b, h = program // H, program % H
    keys, values, t = tl.arange(0, K), tl.arange(0, V), tl.arange(0, CHUNK)
    col, row = t[:, None], t[None, :]
    tile = keys[:, None] * V + values[None, :]
    bonus = tl.load(u + ((b // per_group) * H + h) * K + keys)
    n_chunks = tl.cdiv(T, CHUNK)
    states += program * n_chunks * K * V
    base = b * T * H + h
    G = tl.load(dlast + program * K * V + tile)
    du_sum = tl.zeros([K], tl.float32)
    before, after = (row < col).to(tl.float32), (row > col).to(tl.float32)
    for done in range(n_chunks):
        c = n_chunks - 1 - done
        S = tl.load(states + c * K * V + tile)
        at = c * CHUNK + t
        there = (at < T)[:, None]
        ok = (base + at.to(tl.int64) * H)[:, None] * K + keys[None, :]
        ov = (base + at.to(tl.int64) * H)[:, None] * V + values[None, :]
        r_c = tl.load(r + ok, mask=there, other=0.0).to(tl.float32)
        k_c = tl.load(k + ok, mask=there, other=0.0).to(tl.float32)
        v_c = tl.load(v + ov, mask=there, other=0.0).to(tl.float32)
        dy_c = tl.load(dy + ov, mask=there, other=0.0).to(tl.float32)
        w_c = tl.maximum(tl.load(log_w + ok, mask=there, other=0.0).to(tl.float32), STRONGEST)
        dA = _dot(dy_c, tl.trans(v_c))
        dA_t = _dot(v_c, tl.trans(dy_c))
        own, d_own = tl.sum(r_c * bonus[None, :] * k_c, axis=1), tl.sum(dy_c * v_c, axis=1)
        E, F = tl.exp(_dot(before, w_c)), tl.exp(_dot(after, w_c))
        kept = tl.exp(tl.sum(w_c, axis=0))
        rE, kF = r_c * E, k_c * F
        d_rE, d_kF = _dot(dy_c, tl.trans(S)), _dot(v_c, tl.trans(G))
        dv_c = own[:, None] * dy_c + _dot(kF, G)
        dr_c = d_own[:, None] * bonus[None, :] * k_c + E * d_rE
        dk_c = d_own[:, None] * bonus[None, :] * r_c + F * d_kF
        du_sum += tl.sum(d_own[:, None] * r_c * k_c, axis=0)
        # w_j acts on what is read after j and written before: E_t for t > j, F_s for s < j
        dw_c = _dot(after, rE * d_rE) + _dot(before, kF * d_kF) + (kept * tl.sum(S * G, axis=1))[None, :]
        A_t = tl.zeros([CHUNK, CHUNK], tl.float32)
        for level in tl.static_range(LEVELS):
            half = 1 << level
            D = tl.exp(_dot(_to_middle(col, row, half), w_c))
            rD, kD = r_c * D, k_c * D
            P, P_t = _pairs(col, row, half), _pairs(row, col, half)
            A_t += tl.where(P_t, _dot(kD, tl.trans(rD)), 0.0)
            d_rD = _dot(tl.where(P, dA, 0.0), kD)
            d_kD = _dot(tl.where(P_t, dA_t, 0.0), rD)
            dr_c += D * d_rD
            dk_c += D * d_kD
            dw_c += _dot(_to_middle(row, col, half), rD * d_rD + kD * d_kD)
        dv_c += _dot(A_t, dy_c)
        tl.store(dr + ok, dr_c.to(dr.dtype.element_ty), mask=there)
        tl.store(dk + ok, dk_c.to(dk.dtype.element_ty), mask=there)
        tl.store(dv + ov, dv_c.to(dv.dtype.element_ty), mask=there)
        tl.store(dlog_w + ok, dw_c.to(dlog_w.dtype.element_ty), mask=there)
        G = kept[:, None] * G + _dot(tl.trans(rE), dy_c)
    tl.store(du + program * K + keys, du_sum)
    tl.store(dstart + program * K * V + tile, G)


@torch.library.custom_op("gt::wkv6", mutates_args=())
def wkv6_forward(
    r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, start: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """r, k, log_w (B, T, H, K), v (B, T, H, V), u (G, H, K), start (B, H, K, V) or None; row b has the u of run b // (B / G).

    Returns y like v, the last state (B, H, K, V) in float32, and the states before each chunk (B, H, chunk, K, V).
    """
    (B, T, H, K), V = r.shape, v.shape[-1]
    r, k, v, log_w, u = (t.contiguous() for t in (r, k, v, log_w, u))
    y, last = torch.empty_like(v), v.new_empty(B, H, K, V, dtype=torch.float32)
    states = v.new_empty(B, H, triton.cdiv(T, CHUNK), K, V, dtype=torch.float32)
    begin = last if start is None else start.contiguous()
    own = min(V, VALUES)
    _forward[(B * H, V // own)](
        r, k, v, log_w, u, begin, y, last, states, T, H, B // u.shape[0], K, V, own, CHUNK, start is not None,
        num_warps=warps(K, own),
    )  # fmt: skip
    return y, last, states


@torch.library.custom_op("gt::wkv6_backward", mutates_args=())
def wkv6_backward(
    r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, states: Tensor, dy: Tensor, dlast: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of r, k, v, log_w, u and start."""
    (B, T, H, K), V, runs = r.shape, v.shape[-1], u.shape[0]
    r, k, v, log_w, u, dy, dlast = (t.contiguous() for t in (r, k, v, log_w, u, dy, dlast))
    dr, dk, dv, dlog_w = (torch.empty_like(t) for t in (r, k, v, log_w))
    du, dstart = v.new_empty(B, H, K, dtype=torch.float32), torch.empty_like(states[:, :, 0]).contiguous()
    _backward[(B * H,)](
        r, k, v, log_w, u, states, dy, dlast, dr, dk, dv, dlog_w, du, dstart, T, H, B // runs, K, V, CHUNK,
        num_warps=warps(K, V),
    )  # fmt: skip
    return dr, dk, dv, dlog_w, du.view(runs, B // runs, H, K).sum(1).to(u.dtype), dstart


@wkv6_forward.register_fake
def _(r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    (B, T, H, K), V = r.shape, v.shape[-1]
    last = v.new_empty(B, H, K, V, dtype=torch.float32)
    return torch.empty_like(v.contiguous()), last, v.new_empty(B, H, -(-T // CHUNK), K, V, dtype=torch.float32)


@wkv6_backward.register_fake
def _(
    r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, states: Tensor, dy: Tensor, dlast: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    dr, dk, dv, dlog_w, du = (torch.empty_like(t.contiguous()) for t in (r, k, v, log_w, u))
    return dr, dk, dv, dlog_w, du, torch.empty_like(states[:, :, 0]).contiguous()


register(wkv6_forward, wkv6_backward, written=2)


def wkv6_chunks(
    r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As `gt.ops.wkv6.wkv6_reference`; computes in float32, y has v's dtype."""
    y, last, _ = wkv6_forward(r, k, v, log_w, u.unsqueeze(0), state)
    return y, last
