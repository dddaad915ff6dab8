"""The recurrences on a GPU: one kernel forward and one backward, the state in registers, one position after the other.

    S_t = w_t * S_{t-1} + k_t v_t^T
    y_t = q_t (S_{t-1} + diag(u) k_t v_t^T), or q_t S_t where there is no u

with S (key, value) for each head, and w_t a number for each key, for each value, or for the head. A program owns a tile of one
head's state, which no other tile acts on; sums over tiles leave the kernel as a part a tile and are taken in a fixed order.
That is RWKV-6, Mamba-2 and the reference code of Selective WKV (gt/ops/recurrence.py).

Small models wait for latencies and launches, not for arithmetic. A tile is one warp and has most of its longer axis in the
registers of a thread, so that a sum over it takes few steps; the rows of the next positions are on their way to shared memory
meanwhile (num_stages). Backward does not divide by decays: it runs forward again, keeps every fourth state, and goes back from
those, four positions at a time.

Decays come as `e` (`gt.ops.recurrence.encoded`): w itself where it is small, w - 1 where it is near 1 and its rounding would
add up over a long sequence.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels import tiles

STRIDE = 4  # positions from one kept state to the next; the backward kernel has them written out


@triton.jit
def _row(x, row, SIZE: tl.constexpr, start, N: tl.constexpr, there):
    """x[row, start : start + N] of a matrix of SIZE columns, in float32; zeros if it is not there.

    Only copies of at least 4 bytes a thread are made ahead of time, so bfloat16 comes in pairs.
    """
    at = row * SIZE + start
    if x.dtype.element_ty == tl.bfloat16:
        pairs = tl.load((x + at).to(tl.pointer_type(tl.uint32)) + tl.arange(0, N // 2), mask=there, other=0)
        low, high = pairs << 16, pairs & 0xFFFF0000
        return tl.interleave(low.to(tl.float32, bitcast=True), high.to(tl.float32, bitcast=True))
    else:
        return tl.load(x + at + tl.arange(0, N), mask=there, other=0.0)


@triton.jit
def _decay(
    e, row, K: tl.constexpr, V: tl.constexpr, key, BK: tl.constexpr, value, BV: tl.constexpr, DECAY: tl.constexpr, there
):
    """A position's decays, as they act on a tile (value, key)."""
    if DECAY == "key":
        return _row(e, row, K, key, BK, there)[None, :]
    elif DECAY == "value":
        return _row(e, row, V, value, BV, there)[:, None]
    else:
        return _row(e, row, 1, 0, 1, there)[:, None]


@triton.jit
def _decayed(state, e):
    """w * state."""
    return tl.where(e > 0.0, 0.0, state) + e * state


@triton.jit
def positions_forward_kernel(
    q, k, v, e, u, initial, y, final, T, H, batch_per_u,
    SHARED: tl.constexpr, K: tl.constexpr, V: tl.constexpr, BV: tl.constexpr, DECAY: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """A tile is (K, BV): it has all keys, so its y is whole."""
    head = tl.program_id(1).to(tl.int64)  # among those of all sequences
    value = tl.program_id(0) * BV
    first = head // H * T * H + head % H  # rows of position 0, among (batch, time, head)
    shared_first = head // H * T * (H // SHARED) + head % H // SHARED
    tile = head * K * V + tl.arange(0, K)[:, None] * V + value + tl.arange(0, BV)[None, :]
    state = tl.zeros([K, BV], tl.float32)
    if initial is not None:
        state += tl.load(initial + tile)
    if u is not None:
        bonus = tl.load(u + (head // H // batch_per_u * H + head % H) * K + tl.arange(0, K))
    for t in tl.range(0, T, num_stages=STAGES):
        row = first + t * H
        shared_row = shared_first + t * (H // SHARED)
        q_t = _row(q, shared_row, K, 0, K, True)
        k_t = _row(k, shared_row, K, 0, K, True)
        v_t = _row(v, row, V, value, BV, True)
        if DECAY == "key":
            e_t = _row(e, row, K, 0, K, True)[:, None]
        elif DECAY == "value":
            e_t = _row(e, row, V, value, BV, True)[None, :]
        else:
            e_t = _row(e, row, 1, 0, 1, True)[:, None]
        new = _decayed(state, e_t) + k_t[:, None] * v_t[None, :]
        if u is not None:
            y_t = tl.sum(q_t[:, None] * state, 0) + tl.sum(q_t * bonus * k_t, 0) * v_t
        else:
            y_t = tl.sum(q_t[:, None] * new, 0)
        state = new
        tl.store(y + row * V + value + tl.arange(0, BV), y_t.to(y.dtype.element_ty))
    tl.store(final + tile, state)


@triton.jit
def _position_back(
    q, bonus, dy, dk, dv, dw, k_t, v_t, e_t, state, gradient, du, row, shared_row, key_part, value_part, head_part, there,
    K: tl.constexpr, V: tl.constexpr, key, BK: tl.constexpr, value, BV: tl.constexpr, DECAY: tl.constexpr,
):  # fmt: skip
    """From the gradient of S_t to that of S_{t-1} = state, with those of what position t has. Returns it and the new du."""
    q_t = _row(q, shared_row, K, key, BK, there)
    dy_t = _row(dy, row, V, value, BV, there)
    through = gradient
    if bonus is not None:
        written = gradient + dy_t[:, None] * (bonus * q_t)[None, :]
        du += q_t * k_t * tl.sum(v_t * dy_t, 0)
    else:
        written = gradient + dy_t[:, None] * q_t[None, :]
        through = written
    keys, values = key + tl.arange(0, BK), value + tl.arange(0, BV)
    tl.store(dk + (value_part + row) * K + keys, tl.sum(written * v_t[:, None], 0), mask=there)
    tl.store(dv + (key_part + row) * V + values, tl.sum(written * k_t[None, :], 1), mask=there)
    if DECAY == "key":
        tl.store(dw + (value_part + row) * K + keys, tl.sum(through * state, 0), mask=there)
    elif DECAY == "value":
        tl.store(dw + (key_part + row) * V + values, tl.sum(through * state, 1), mask=there)
    else:
        tl.store(dw + head_part + row, tl.sum(tl.sum(through * state, 0), 0), mask=there)
    before = _decayed(through, e_t)
    if bonus is not None:
        before += dy_t[:, None] * q_t[None, :]
    return before, du


@triton.jit
def positions_backward_kernel(
    q, k, v, e, u, initial, dy, dfinal, kept, dq, dk, dv, dw, du, dinitial, T, H, batch_per_u,
    SHARED: tl.constexpr, K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, DECAY: tl.constexpr,
    STRIDE: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """A tile is (BV, BK). dq and dk have a part for each value tile, dv one for each key tile, dw by DECAY."""
    head = tl.program_id(1).to(tl.int64)
    heads = tl.num_programs(1).to(tl.int64)
    key_tile, value_tile = tl.program_id(0) // (V // BV), tl.program_id(0) % (V // BV)
    key, value = key_tile * BK, value_tile * BV
    key_part, value_part, head_part = key_tile * heads * T, value_tile * heads * T, tl.program_id(0) * heads * T
    first = head // H * T * H + head % H
    shared_first = head // H * T * (H // SHARED) + head % H // SHARED
    keys, values = key + tl.arange(0, BK), value + tl.arange(0, BV)
    tile = head * K * V + keys[None, :] * V + values[:, None]
    n_kept = tl.cdiv(T, STRIDE)
    own = (
        kept + (tl.program_id(0) * heads + head) * n_kept * BV * BK + tl.arange(0, BV)[:, None] * BK + tl.arange(0, BK)[None, :]
    )
    bonus = None
    if u is not None:
        bonus = tl.load(u + (head // H // batch_per_u * H + head % H) * K + keys)

    state = tl.zeros([BV, BK], tl.float32)
    if initial is not None:
        state += tl.load(initial + tile)
    for t in tl.range(0, T, num_stages=STAGES):
        if t % STRIDE == 0:
            tl.store(own + t // STRIDE * BV * BK, state)
        row = first + t * H
        k_t = _row(k, shared_first + t * (H // SHARED), K, key, BK, True)
        v_t = _row(v, row, V, value, BV, True)
        dy_t = _row(dy, row, V, value, BV, True)
        e_t = _decay(e, row, K, V, key, BK, value, BV, DECAY, True)
        new = _decayed(state, e_t) + v_t[:, None] * k_t[None, :]
        if bonus is not None:
            dq_t = tl.sum(dy_t[:, None] * state, 0) + bonus * k_t * tl.sum(v_t * dy_t, 0)
        else:
            dq_t = tl.sum(dy_t[:, None] * new, 0)
        state = new
        tl.store(dq + (value_part + row) * K + keys, dq_t)
    tl.debug_barrier()  # the kept states are read by other threads than wrote them

    gradient = tl.zeros([BV, BK], tl.float32)
    if dfinal is not None:
        gradient += tl.load(dfinal + tile)
    du_sum = tl.zeros([BK], tl.float32)
    for n in tl.range(0, n_kept, num_stages=2):
        t = (n_kept - 1 - n) * STRIDE
        state_0 = tl.load(own + (n_kept - 1 - n) * BV * BK)
        row_0, row_1, row_2, row_3 = first + t * H, first + (t + 1) * H, first + (t + 2) * H, first + (t + 3) * H
        H_shared = H // SHARED
        shared_0 = shared_first + t * H_shared
        shared_1, shared_2, shared_3 = shared_0 + H_shared, shared_0 + 2 * H_shared, shared_0 + 3 * H_shared
        there_1, there_2, there_3 = t + 1 < T, t + 2 < T, t + 3 < T
        k_0 = _row(k, shared_0, K, key, BK, True)
        k_1 = _row(k, shared_1, K, key, BK, there_1)
        k_2 = _row(k, shared_2, K, key, BK, there_2)
        k_3 = _row(k, shared_3, K, key, BK, there_3)
        v_0 = _row(v, row_0, V, value, BV, True)
        v_1 = _row(v, row_1, V, value, BV, there_1)
        v_2 = _row(v, row_2, V, value, BV, there_2)
        v_3 = _row(v, row_3, V, value, BV, there_3)
        e_0 = _decay(e, row_0, K, V, key, BK, value, BV, DECAY, True)
        e_1 = _decay(e, row_1, K, V, key, BK, value, BV, DECAY, there_1)
        e_2 = _decay(e, row_2, K, V, key, BK, value, BV, DECAY, there_2)
        e_3 = _decay(e, row_3, K, V, key, BK, value, BV, DECAY, there_3)
        state_1 = _decayed(state_0, e_0) + v_0[:, None] * k_0[None, :]
        state_2 = _decayed(state_1, e_1) + v_1[:, None] * k_1[None, :]
        state_3 = _decayed(state_2, e_2) + v_2[:, None] * k_2[None, :]
        gradient, du_sum = _position_back(
            q, bonus, dy, dk, dv, dw, k_3, v_3, e_3, state_3, gradient, du_sum, row_3, shared_3,
            key_part, value_part, head_part, there_3, K, V, key, BK, value, BV, DECAY,
        )  # fmt: skip
        gradient, du_sum = _position_back(
            q, bonus, dy, dk, dv, dw, k_2, v_2, e_2, state_2, gradient, du_sum, row_2, shared_2,
            key_part, value_part, head_part, there_2, K, V, key, BK, value, BV, DECAY,
        )  # fmt: skip
        gradient, du_sum = _position_back(
            q, bonus, dy, dk, dv, dw, k_1, v_1, e_1, state_1, gradient, du_sum, row_1, shared_1,
            key_part, value_part, head_part, there_1, K, V, key, BK, value, BV, DECAY,
        )  # fmt: skip
        gradient, du_sum = _position_back(
            q, bonus, dy, dk, dv, dw, k_0, v_0, e_0, state_0, gradient, du_sum, row_0, shared_0,
            key_part, value_part, head_part, True, K, V, key, BK, value, BV, DECAY,
        )  # fmt: skip
    tl.store(dinitial + tile, gradient)
    if bonus is not None:
        tl.store(du + (value_tile * heads + head) * K + keys, du_sum)


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    e: Tensor,
    u: Tensor | None,
    state: Tensor | None,
    y: Tensor,
    final: Tensor,
    decay: str,
) -> None:
    """Fills y and final. Arguments as in `gt.ops.recurrence.recurrence`."""
    batch, time, heads, values = v.shape
    keys = q.shape[-1]
    cut = tiles(keys, values)
    positions_forward_kernel[(values // cut.forward_values, batch * heads)](
        q, k, v, e, u, state, y, final, time, heads, batch if u is None else batch // u.shape[0],
        heads // q.shape[2], keys, values, cut.forward_values, decay, cut.stages, num_warps=cut.warps,
    )  # fmt: skip


def backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    e: Tensor,
    u: Tensor | None,
    state: Tensor | None,
    dy: Tensor,
    dfinal: Tensor | None,
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    de: Tensor,
    du: Tensor,
    dstate: Tensor,
    decay: str,
) -> None:
    """Fills dq, dk (part, batch, time, head, key), dv and de (part, *shape), du (part, batch, head, key) and dstate.

    In float32, each the sum of its parts; dq and dk are of each head, also where heads share q and k.
    """
    batch, time, heads, values = v.shape
    keys = q.shape[-1]
    cut = tiles(keys, values)
    n_tiles = keys // cut.keys * (values // cut.values)
    kept = dstate.new_empty(batch * heads, triton.cdiv(time, STRIDE), keys, values)
    positions_backward_kernel[(n_tiles, batch * heads)](
        q, k, v, e, u, state, dy, dfinal, kept, dq, dk, dv, de, du, dstate,
        time, heads, batch if u is None else batch // u.shape[0],
        heads // q.shape[2], keys, values, cut.keys, cut.values, decay, STRIDE, cut.stages, num_warps=cut.warps,
    )  # fmt: skip
