"""RWKV-6's recurrence as one kernel forward and one backward.

A program has a sequence and a head, keeps its state in registers, and goes from position to position: what it multiplies are
decays themselves, so nothing overflows or cancels, however strong they are. At the sizes of small models a GPU is filled by
sequences and heads alone, and a position costs less than the launch of a kernel.

The forward pass leaves the state before every chunk of positions; the backward pass goes through the chunks from the last to
the first, computes the states inside of one again, and then goes back through them with the gradient of the state.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels.launch import CHUNK, folded, warps


@triton.jit
def _forward(
    r, k, v, log_w, u, start, y, last, states, T, H, per_group,
    K: tl.constexpr, V: tl.constexpr, CHUNK: tl.constexpr, HAS_START: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    b, h = program // H, program % H
    keys, values = tl.arange(0, K), tl.arange(0, V)
    tile = keys[:, None] * V + values[None, :]
    at_k, at_v = (b * T * H + h) * K + keys, (b * T * H + h) * V + values
    bonus = tl.load(u + ((b // per_group) * H + h) * K + keys).to(tl.float32)
    if HAS_START:
        S = tl.load(start + program * K * V + tile).to(tl.float32)
    else:
        S = tl.zeros([K, V], tl.float32)
    states += program * tl.cdiv(T, CHUNK) * K * V

    r_t, k_t, v_t, w_t = tl.load(r + at_k), tl.load(k + at_k), tl.load(v + at_v), tl.load(log_w + at_k)
    for t in range(T):
        if t % CHUNK == 0:
            tl.store(states + (t // CHUNK) * K * V + tile, S)
        # The next position is on its way while this one is computed.
        more = t + 1 < T
        at_next_k, at_next_v = at_k + H * K, at_v + H * V
        r_next, k_next = tl.load(r + at_next_k, mask=more, other=0.0), tl.load(k + at_next_k, mask=more, other=0.0)
        v_next, w_next = tl.load(v + at_next_v, mask=more, other=0.0), tl.load(log_w + at_next_k, mask=more, other=0.0)
        r32, k32, v32 = r_t.to(tl.float32), k_t.to(tl.float32), v_t.to(tl.float32)
        written = k32[:, None] * v32[None, :]
        y_t = tl.sum(r32[:, None] * (S + bonus[:, None] * written), axis=0)
        tl.store(y + at_v, y_t.to(y.dtype.element_ty))
        S = tl.exp(w_t.to(tl.float32))[:, None] * S + written
        r_t, k_t, v_t, w_t = r_next, k_next, v_next, w_next
        at_k, at_v = at_next_k, at_next_v
    tl.store(last + program * K * V + tile, S)


@triton.jit
def _backward(
    r, k, v, log_w, u, states, dy, dlast, dr, dk, dv, dlog_w, du, dstart, inside, T, H, per_group,
    K: tl.constexpr, V: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    b, h = program // H, program % H
    keys, values = tl.arange(0, K), tl.arange(0, V)
    tile = keys[:, None] * V + values[None, :]
    first_k, first_v = (b * T * H + h) * K + keys, (b * T * H + h) * V + values
    bonus = tl.load(u + ((b // per_group) * H + h) * K + keys).to(tl.float32)
    n_chunks = tl.cdiv(T, CHUNK)
    states += program * n_chunks * K * V
    inside += program * CHUNK * K * V
    G = tl.load(dlast + program * K * V + tile).to(tl.float32)
    du_sum = tl.zeros([K], tl.float32)

    for c in range(n_chunks):
        chunk = n_chunks - 1 - c
        begin = chunk * CHUNK
        length = tl.minimum(CHUNK, T - begin)
        S = tl.load(states + chunk * K * V + tile)
        at_k, at_v = first_k + begin * H * K, first_v + begin * H * V
        for i in range(length):
            k32, v32 = tl.load(k + at_k).to(tl.float32), tl.load(v + at_v).to(tl.float32)
            r32, dy32 = tl.load(r + at_k).to(tl.float32), tl.load(dy + at_v).to(tl.float32)
            w32 = tl.exp(tl.load(log_w + at_k).to(tl.float32))
            tl.store(inside + i * K * V + tile, S)
            vdy = tl.sum(v32 * dy32, axis=0)
            dr_t = tl.sum(S * dy32[None, :], axis=1) + bonus * k32 * vdy
            tl.store(dr + at_k, dr_t.to(dr.dtype.element_ty))
            du_sum += r32 * k32 * vdy
            S = w32[:, None] * S + k32[:, None] * v32[None, :]
            at_k += H * K
            at_v += H * V
        tl.debug_barrier()
        for j in range(length):
            i = length - 1 - j
            at_k -= H * K
            at_v -= H * V
            k32, v32 = tl.load(k + at_k).to(tl.float32), tl.load(v + at_v).to(tl.float32)
            r32, dy32 = tl.load(r + at_k).to(tl.float32), tl.load(dy + at_v).to(tl.float32)
            w32 = tl.exp(tl.load(log_w + at_k).to(tl.float32))
            S = tl.load(inside + i * K * V + tile)
            vdy = tl.sum(v32 * dy32, axis=0)
            ruk = tl.sum(r32 * bonus * k32, axis=0)
            dk_t = tl.sum(G * v32[None, :], axis=1) + r32 * bonus * vdy
            dv_t = tl.sum(G * k32[:, None], axis=0) + ruk * dy32
            dw_t = w32 * tl.sum(S * G, axis=1)
            tl.store(dk + at_k, dk_t.to(dk.dtype.element_ty))
            tl.store(dv + at_v, dv_t.to(dv.dtype.element_ty))
            tl.store(dlog_w + at_k, dw_t.to(dlog_w.dtype.element_ty))
            G = w32[:, None] * G + r32[:, None] * dy32[None, :]
        tl.debug_barrier()
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
    _forward[(B * H,)](
        r, k, v, log_w, u, begin, y, last, states, T, H, B // u.shape[0], K, V, CHUNK, start is not None, num_warps=warps(K, V)
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
    inside = v.new_empty(B, H, CHUNK, K, V, dtype=torch.float32)
    _backward[(B * H,)](
        r, k, v, log_w, u, states, dy, dlast, dr, dk, dv, dlog_w, du, dstart, inside, T, H, B // runs, K, V, CHUNK,
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


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, start = inputs
    ctx.save_for_backward(*tensors, output[2])
    ctx.has_start = start is not None


def _differentiate(ctx: Any, dy: Tensor | None, dlast: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    *inputs, states = ctx.saved_tensors
    dy = torch.zeros_like(inputs[2]) if dy is None else dy
    dlast = torch.zeros_like(states[:, :, 0]) if dlast is None else dlast
    *gradients, dstart = wkv6_backward(*inputs, states, dy, dlast)
    return (*gradients, dstart if ctx.has_start else None)


wkv6_forward.register_autograd(_differentiate, setup_context=_remember)


@torch.library.register_vmap(wkv6_forward)
def _(info: Any, in_dims: Any, *inputs: Tensor | None) -> Any:
    outputs = wkv6_forward(*(folded(x, dim, info.batch_size) for x, dim in zip(inputs, in_dims, strict=True)))
    return tuple(x.unflatten(0, (info.batch_size, -1)) for x in outputs), (0, 0, 0)


def wkv6_triton(
    r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As `gt.ops.wkv6.wkv6_reference`; computes in float32, y has v's dtype."""
    y, last, _ = wkv6_forward(r, k, v, log_w, u.unsqueeze(0), state)
    return y, last
