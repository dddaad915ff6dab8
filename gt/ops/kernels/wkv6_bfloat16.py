"""RWKV-6's recurrence of bfloat16 activations: products on the matrix units in bfloat16, states and sums in float32.

As in `gt.ops.kernels.wkv6` a program has a sequence and a head and goes from chunk to chunk. Here the decay between two
positions of a chunk is one product of two factors that meet in the middle of the chunk, whichever the pair. One of them may be
above 1, and stays within float32 where no decay a token is stronger than e^-10: a stronger one is held there, which changes an
output by 5e-5 of what it forgets, less than its rounding, and the gradient of a decay is put right by what was held back.

The gradient of a decay is a sum over the pairs that it lies between. A difference of two longer sums would lose it where decays
are strong, so pairs are taken by the halving that separates them: of one half's positions, those before or after the decay.

Backward, one kernel takes the gradient of the state from chunk to chunk, and another all chunks at once.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels.halvings import LEVELS, LOG2_E, separated, to_middle
from gt.ops.kernels.launch import CHUNK, assert_contiguous, register
from gt.ops.kernels.products import product

STRONGEST = tl.constexpr(-10.0)  # half a chunk of them is e^-80, and float32 has e^88
VALUES = 32  # of a program that keeps a state


@triton.jit
def _sums(ones, w):
    """ones @ w. Exponents stay exact: a sum of 30 that is off by 2^-11 of itself is off by 1.5 %."""
    upper = (w.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)  # the bits that TF32 keeps
    return tl.dot(ones, upper, input_precision="tf32") + tl.dot(ones, w - upper, input_precision="tf32")


@triton.jit
def wkv6_forward_kernel(
    r, k, v, log_w, u, start, y, last, states, T, H, per_run,
    K: tl.constexpr, V: tl.constexpr, BV: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """r, k and log_w (B, T, H, K), v (B, T, H, V), u (B / per_run, H, K), start (B, H, K, V) or None -> y as v, last as start,
    and states (B, H, chunk, K, V), each that before a chunk; all contiguous. Programs: (B * H, V / BV).
    """
    program = tl.program_id(0).to(tl.int64)
    b, h = program // H, program % H
    keys, values, t = tl.arange(0, K), tl.program_id(1) * BV + tl.arange(0, BV), tl.arange(0, CHUNK)
    col, row = t[:, None], t[None, :]
    tile = keys[:, None] * V + values[None, :]
    bonus = tl.load(u + ((b // per_run) * H + h) * K + keys)
    S = tl.zeros([K, BV], tl.float32)
    if start is not None:
        S += tl.load(start + program * K * V + tile)
    n_chunks = tl.cdiv(T, CHUNK)
    states += program * n_chunks * K * V
    first = b * T * H + h
    r, k, log_w = r + first * K, k + first * K, log_w + first * K
    v, y = v + first * V, y + first * V
    before = (row < col).to(tl.float32)
    for c in range(n_chunks):
        tl.store(states + c * K * V + tile, S.to(tl.bfloat16))
        at = c * CHUNK + t
        there = (at < T)[:, None]
        ok, ov = (at * H)[:, None] * K + keys[None, :], (at * H)[:, None] * V + values[None, :]
        r_c = tl.load(r + ok, mask=there, other=0.0).to(tl.float32)
        k_c = tl.load(k + ok, mask=there, other=0.0).to(tl.float32)
        v_c = tl.load(v + ov, mask=there, other=0.0)
        w_c = tl.maximum(tl.load(log_w + ok, mask=there, other=0.0), STRONGEST) * LOG2_E
        read = _sums(before, w_c)
        written = read + w_c
        middle = tl.sum(tl.where(col < CHUNK // 2, w_c, 0.0), axis=0)[None, :]
        total = tl.sum(w_c, axis=0)
        R, W = r_c * tl.exp2(read - middle), k_c * tl.exp2(middle - written)
        A = tl.where(row < col, product(R, tl.trans(W)), 0.0)
        A += tl.where(col == row, tl.sum(r_c * bonus[None, :] * k_c, axis=1)[:, None], 0.0)
        y_c = product(A, v_c) + product(r_c * tl.exp2(read), S)
        tl.store(y + ov, y_c.to(y.dtype.element_ty), mask=there)
        kept = k_c * tl.exp2(total[None, :] - written)
        S = tl.exp2(total)[:, None] * S + product(tl.trans(kept), v_c)
    tl.store(last + program * K * V + tile, S)


@triton.jit
def wkv6_state_gradients_kernel(
    r, log_w, dy, dlast, gradients, dstart, T, H, K: tl.constexpr, V: tl.constexpr, BV: tl.constexpr, CHUNK: tl.constexpr
):
    """The gradient of the state after each chunk, as `states`, from the last to the first. Programs: (B * H, V / BV)."""
    program = tl.program_id(0).to(tl.int64)
    b, h = program // H, program % H
    keys, values, t = tl.arange(0, K), tl.program_id(1) * BV + tl.arange(0, BV), tl.arange(0, CHUNK)
    tile = keys[:, None] * V + values[None, :]
    n_chunks = tl.cdiv(T, CHUNK)
    gradients += program * n_chunks * K * V
    first = b * T * H + h
    r, log_w, dy = r + first * K, log_w + first * K, dy + first * V
    before = (t[None, :] < t[:, None]).to(tl.float32)
    G = tl.zeros([K, BV], tl.float32)
    if dlast is not None:
        G += tl.load(dlast + program * K * V + tile)
    for done in range(n_chunks):
        c = n_chunks - 1 - done
        tl.store(gradients + c * K * V + tile, G.to(tl.bfloat16))
        at = c * CHUNK + t
        there = (at < T)[:, None]
        ok, ov = (at * H)[:, None] * K + keys[None, :], (at * H)[:, None] * V + values[None, :]
        r_c = tl.load(r + ok, mask=there, other=0.0).to(tl.float32)
        dy_c = tl.load(dy + ov, mask=there, other=0.0)
        held = tl.maximum(tl.load(log_w + ok, mask=there, other=0.0), STRONGEST) * LOG2_E
        rE = r_c * tl.exp2(_sums(before, held))
        G = tl.exp2(tl.sum(held, axis=0))[:, None] * G + product(tl.trans(rE), dy_c)
    if dstart is not None:
        tl.store(dstart + program * K * V + tile, G)


@triton.jit
def wkv6_backward_kernel(
    r, k, v, log_w, u, states, gradients, dy, dr, dk, dv, dlog_w, du, T, H, per_run,
    K: tl.constexpr, V: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """The gradients of a chunk's own; du has a part for each chunk, (B, H, chunk, K). Programs: (B * H, chunk)."""
    program, c = tl.program_id(0).to(tl.int64), tl.program_id(1)
    b, h = program // H, program % H
    n_chunks = tl.num_programs(1)
    keys, values, t = tl.arange(0, K), tl.arange(0, V), tl.arange(0, CHUNK)
    col, row = t[:, None], t[None, :]
    tile = (program * n_chunks + c) * K * V + keys[:, None] * V + values[None, :]
    first = b * T * H + h
    at = c * CHUNK + t
    there = (at < T)[:, None]
    ok, ov = first * K + (at * H)[:, None] * K + keys[None, :], first * V + (at * H)[:, None] * V + values[None, :]
    before, after = (row < col).to(tl.float32), (row > col).to(tl.float32)
    w = tl.load(log_w + ok, mask=there, other=0.0)
    held = tl.maximum(w, STRONGEST)
    change = tl.exp(w - held)
    held *= LOG2_E
    read = _sums(before, held)
    total = tl.sum(held, axis=0)
    r_c = tl.load(r + ok, mask=there, other=0.0).to(tl.float32)
    dy_c = tl.load(dy + ov, mask=there, other=0.0)
    S = tl.load(states + tile)
    dr_c = tl.exp2(read) * product(dy_c, tl.trans(S))
    dw_c = product(after, r_c * dr_c)
    G = tl.load(gradients + tile)
    dw_c += (tl.exp2(total) * tl.sum(S.to(tl.float32) * G.to(tl.float32), axis=1))[None, :]
    written = read + held
    k_c = tl.load(k + ok, mask=there, other=0.0).to(tl.float32)
    v_c = tl.load(v + ov, mask=there, other=0.0)
    F = tl.exp2(total[None, :] - written)
    dk_c = F * product(v_c, tl.trans(G))
    dw_c += product(before, k_c * dk_c)
    dv_c = product(k_c * F, G)

    middle = tl.sum(tl.where(col < CHUNK // 2, held, 0.0), axis=0)[None, :]
    to_read, to_written = tl.exp2(read - middle), tl.exp2(middle - written)
    R, W = (r_c * to_read).to(tl.bfloat16), (k_c * to_written).to(tl.bfloat16)
    bonus = tl.load(u + ((b // per_run) * H + h) * K + keys)[None, :]
    A_t = tl.where(row > col, product(W, tl.trans(R)), 0.0)
    A_t += tl.where(col == row, tl.sum(r_c * bonus * k_c, axis=1)[:, None], 0.0)
    dv_c += product(A_t, dy_c)
    tl.store(dv + ov, dv_c.to(dv.dtype.element_ty), mask=there)
    dA = product(dy_c, tl.trans(v_c))
    own = tl.sum(tl.where(col == row, dA, 0.0), axis=1)[:, None]
    tl.store(du + (program * n_chunks + c) * K + keys, tl.sum(own * r_c * k_c, axis=0))
    dr_c += own * bonus * k_c
    dk_c += own * bonus * r_c
    dA = tl.where(row < col, dA, product(v_c, tl.trans(dy_c))).to(tl.bfloat16)
    for level in tl.static_range(LEVELS):
        late = (col >> level) & 1 == 1
        X = tl.where(late, R, W)
        dX = product(tl.where(separated(col, row, level), dA, 0.0), X)
        dr_c += tl.where(late, to_read * dX, 0.0)
        dk_c += tl.where(late, 0.0, to_written * dX)
        if level > 0:
            dw_c += product(to_middle(row, col, level), X.to(tl.float32) * dX)
    tl.store(dr + ok, dr_c.to(dr.dtype.element_ty), mask=there)
    tl.store(dk + ok, dk_c.to(dk.dtype.element_ty), mask=there)
    tl.store(dlog_w + ok, dw_c * change, mask=there)


def _results(v: Tensor, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    """Room for y, the last state and the states before each chunk."""
    B, T, H, V = v.shape
    last = v.new_empty(B, H, keys, V, dtype=torch.float32)
    return torch.empty_like(v), last, v.new_empty(B, H, -(-T // CHUNK), keys, V)


def _gradients(
    r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, started: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Room for those of r, k, v, log_w, u and start; that of u has a part for each sequence and chunk."""
    (B, T, H, K), V = r.shape, v.shape[-1]
    du = v.new_empty(B, H, -(-T // CHUNK), K, dtype=torch.float32)
    dstart = v.new_empty(B, H, K, V, dtype=torch.float32) if started else v.new_empty(0, dtype=torch.float32)
    dr, dk, dv, dlog_w = (torch.empty_like(t) for t in (r, k, v, log_w))
    return dr, dk, dv, dlog_w, du, dstart


@torch.library.custom_op("gt::wkv6_bfloat16", mutates_args=())
def wkv6_forward(
    r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, start: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """r, k (B, T, H, K), v (B, T, H, V) in bfloat16, log_w (B, T, H, K), u (R, H, K), start (B, H, K, V) or None in
    float32; row b has the u of run b // (B / R). All contiguous.

    Returns y like v, the last state (B, H, K, V) in float32, and the states before each chunk (B, H, chunk, K, V).
    """
    (B, T, H, K), V = r.shape, v.shape[-1]
    assert_contiguous(r, k, v, log_w, u, start)
    results = _results(v, K)
    own = min(V, VALUES)
    wkv6_forward_kernel[(B * H, V // own)](
        r, k, v, log_w, u, start, *results, T, H, B // u.shape[0], K, V, own, CHUNK, num_warps=max(1, K // 32), num_stages=3
    )
    return results


@torch.library.custom_op("gt::wkv6_bfloat16_backward", mutates_args=())
def wkv6_backward(
    r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, states: Tensor, dy: Tensor, dlast: Tensor | None, started: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of r, k, v, log_w, u and start; that of u in parts (B, H, chunk, K), that of start empty unless started."""
    (B, T, H, K), V = r.shape, v.shape[-1]
    assert_contiguous(r, k, v, log_w, u, states, dy, dlast)
    *others, dstart = _gradients(r, k, v, log_w, started)
    of_states, own = torch.empty_like(states), min(V, VALUES)
    wkv6_state_gradients_kernel[(B * H, V // own)](
        r, log_w, dy, dlast, of_states, dstart if started else None, T, H, K, V, own, CHUNK,
        num_warps=max(1, K // 32), num_stages=2,
    )  # fmt: skip
    wkv6_backward_kernel[(B * H, states.shape[2])](
        r, k, v, log_w, u, states, of_states, dy, *others, T, H, B // u.shape[0], K, V, CHUNK,
        num_warps=max(1, K * V // 1024), num_stages=1,
    )  # fmt: skip
    return (*others, dstart)  # type: ignore[return-value]


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
    return *of_series, du.unflatten(0, (u.shape[0], -1)).sum((1, 3)).to(u.dtype), dstart


register(wkv6_forward, _differentiated, written=2)
