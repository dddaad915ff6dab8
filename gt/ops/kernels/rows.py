"""The recurrences of Mamba-2 and of the selective WKV's reference code, as one kernel forward and one backward.

    S_t = diag(w_t) S_{t-1} + x_t B_t^T,  y_t = S_t C_t

with a decay for each row of the state or one for all. As in `gt.ops.kernels.wkv6`, a program has a sequence and a head, keeps
its state in registers and goes from position to position; the backward pass computes states again, a chunk at a time.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels.launch import CHUNK, folded, warps
from gt.ops.selective import ROWS


@triton.jit
def _forward(
    x, log_w, b, c, start, y, last, states, T, H, heads_a_group,
    P: tl.constexpr, N: tl.constexpr, W: tl.constexpr, CHUNK: tl.constexpr, HAS_START: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    batch, head = program // H, program % H
    groups = H // heads_a_group
    rows, columns = tl.arange(0, P), tl.arange(0, N)
    rates = rows if W > 1 else rows * 0  # one decay is read for all rows
    tile = rows[:, None] * N + columns[None, :]
    at_x, at_w = (batch * T * H + head) * P + rows, (batch * T * H + head) * W + rates
    at_b = (batch * T * groups + head // heads_a_group) * N + columns
    if HAS_START:
        S = tl.load(start + program * P * N + tile).to(tl.float32)
    else:
        S = tl.zeros([P, N], tl.float32)
    states += program * tl.cdiv(T, CHUNK) * P * N

    x_t, w_t, b_t, c_t = tl.load(x + at_x), tl.load(log_w + at_w), tl.load(b + at_b), tl.load(c + at_b)
    for t in range(T):
        if t % CHUNK == 0:
            tl.store(states + (t // CHUNK) * P * N + tile, S)
        # The next position is on its way while this one is computed.
        more = t + 1 < T
        next_x, next_w, next_b = at_x + H * P, at_w + H * W, at_b + groups * N
        x_next, w_next = tl.load(x + next_x, mask=more, other=0.0), tl.load(log_w + next_w, mask=more, other=0.0)
        b_next, c_next = tl.load(b + next_b, mask=more, other=0.0), tl.load(c + next_b, mask=more, other=0.0)
        decay = tl.exp(w_t.to(tl.float32))
        S = decay[:, None] * S + x_t.to(tl.float32)[:, None] * b_t.to(tl.float32)[None, :]
        y_t = tl.sum(S * c_t.to(tl.float32)[None, :], axis=1)
        tl.store(y + at_x, y_t.to(y.dtype.element_ty))
        x_t, w_t, b_t, c_t = x_next, w_next, b_next, c_next
        at_x, at_w, at_b = next_x, next_w, next_b
    tl.store(last + program * P * N + tile, S)


@triton.jit
def _backward(
    x, log_w, b, c, states, dy, dlast, dx, dlog_w, db, dc, dstart, inside, T, H, heads_a_group,
    P: tl.constexpr, N: tl.constexpr, W: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    batch, head = program // H, program % H
    groups = H // heads_a_group
    rows, columns = tl.arange(0, P), tl.arange(0, N)
    rates = rows if W > 1 else rows * 0
    tile = rows[:, None] * N + columns[None, :]
    first_x, first_w = (batch * T * H + head) * P + rows, (batch * T * H + head) * W + rates
    first_b = (batch * T * groups + head // heads_a_group) * N + columns
    first_db = (batch * T * H + head) * N + columns  # a head's own share of what its group's gradients are
    n_chunks = tl.cdiv(T, CHUNK)
    states += program * n_chunks * P * N
    inside += program * CHUNK * P * N
    G = tl.load(dlast + program * P * N + tile).to(tl.float32)

    for done in range(n_chunks):
        chunk = n_chunks - 1 - done
        begin = chunk * CHUNK
        length = tl.minimum(CHUNK, T - begin)
        S = tl.load(states + chunk * P * N + tile)
        for i in range(length):
            at_x, at_w, at_b = first_x + (begin + i) * H * P, first_w + (begin + i) * H * W, first_b + (begin + i) * groups * N
            x_t, b_t = tl.load(x + at_x).to(tl.float32), tl.load(b + at_b).to(tl.float32)
            decay, dy_t = tl.exp(tl.load(log_w + at_w).to(tl.float32)), tl.load(dy + at_x).to(tl.float32)
            tl.store(inside + i * P * N + tile, S)
            S = decay[:, None] * S + x_t[:, None] * b_t[None, :]
            tl.store(dc + first_db + (begin + i) * H * N, tl.sum(S * dy_t[:, None], axis=0))
        tl.debug_barrier()
        for back in range(length):
            i = length - 1 - back
            at_x, at_w, at_b = first_x + (begin + i) * H * P, first_w + (begin + i) * H * W, first_b + (begin + i) * groups * N
            x_t, b_t = tl.load(x + at_x).to(tl.float32), tl.load(b + at_b).to(tl.float32)
            decay, dy_t = tl.exp(tl.load(log_w + at_w).to(tl.float32)), tl.load(dy + at_x).to(tl.float32)
            c_t = tl.load(c + at_b).to(tl.float32)
            S = tl.load(inside + i * P * N + tile)
            G += dy_t[:, None] * c_t[None, :]
            tl.store(dx + at_x, tl.sum(G * b_t[None, :], axis=1).to(dx.dtype.element_ty))
            tl.store(db + first_db + (begin + i) * H * N, tl.sum(G * x_t[:, None], axis=0))
            dw = decay * tl.sum(S * G, axis=1)
            if W > 1:
                tl.store(dlog_w + at_w, dw.to(dlog_w.dtype.element_ty))
            else:
                at = (batch * T * H + head) + (begin + i) * H
                tl.store(dlog_w + at, tl.sum(dw, axis=0).to(dlog_w.dtype.element_ty))
            G = decay[:, None] * G
        tl.debug_barrier()
    tl.store(dstart + program * P * N + tile, G)


@torch.library.custom_op("gt::rows", mutates_args=())
def rows_forward(x: Tensor, log_w: Tensor, b: Tensor, c: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, T, H, P), log_w (B, T, H, P or 1), b, c (B, T, group, N), start (B, H, P, N) or None.

    Returns y like x, the last state (B, H, P, N) in float32, and the states before each chunk (B, H, chunk, P, N).
    """
    (B, T, H, P), W, (groups, N) = x.shape, log_w.shape[-1], b.shape[2:]
    x, log_w, b, c = (t.contiguous() for t in (x, log_w, b, c))
    y, last = torch.empty_like(x), x.new_empty(B, H, P, N, dtype=torch.float32)
    states = x.new_empty(B, H, triton.cdiv(T, CHUNK), P, N, dtype=torch.float32)
    begin = last if start is None else start.contiguous()
    _forward[(B * H,)](
        x, log_w, b, c, begin, y, last, states, T, H, H // groups, P, N, W, CHUNK, start is not None, num_warps=warps(P, N)
    )  # fmt: skip
    return y, last, states


@torch.library.custom_op("gt::rows_backward", mutates_args=())
def rows_backward(
    x: Tensor, log_w: Tensor, b: Tensor, c: Tensor, states: Tensor, dy: Tensor, dlast: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of x, log_w, b, c and start."""
    (B, T, H, P), W, (groups, N) = x.shape, log_w.shape[-1], b.shape[2:]
    x, log_w, b, c, dy, dlast = (t.contiguous() for t in (x, log_w, b, c, dy, dlast))
    dx, dlog_w, dstart = torch.empty_like(x), torch.empty_like(log_w), torch.empty_like(states[:, :, 0]).contiguous()
    db, dc = (x.new_empty(B, T, groups, H // groups, N, dtype=torch.float32) for _ in range(2))
    inside = x.new_empty(B, H, CHUNK, P, N, dtype=torch.float32)
    _backward[(B * H,)](
        x, log_w, b, c, states, dy, dlast, dx, dlog_w, db, dc, dstart, inside, T, H, H // groups, P, N, W, CHUNK,
        num_warps=warps(P, N),
    )  # fmt: skip
    return dx, dlog_w, db.sum(3).to(b.dtype), dc.sum(3).to(c.dtype), dstart


@rows_forward.register_fake
def _(x: Tensor, log_w: Tensor, b: Tensor, c: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    (B, T, H, P), N = x.shape, b.shape[-1]
    last = x.new_empty(B, H, P, N, dtype=torch.float32)
    return torch.empty_like(x.contiguous()), last, x.new_empty(B, H, -(-T // CHUNK), P, N, dtype=torch.float32)


@rows_backward.register_fake
def _(
    x: Tensor, log_w: Tensor, b: Tensor, c: Tensor, states: Tensor, dy: Tensor, dlast: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    dx, dlog_w, db, dc = (torch.empty_like(t.contiguous()) for t in (x, log_w, b, c))
    return dx, dlog_w, db, dc, torch.empty_like(states[:, :, 0]).contiguous()


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, start = inputs
    ctx.save_for_backward(*tensors, output[2])
    ctx.has_start = start is not None


def _differentiate(ctx: Any, dy: Tensor | None, dlast: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    *inputs, states = ctx.saved_tensors
    dy = torch.zeros_like(inputs[0]) if dy is None else dy
    dlast = torch.zeros_like(states[:, :, 0]) if dlast is None else dlast
    *gradients, dstart = rows_backward(*inputs, states, dy, dlast)
    return (*gradients, dstart if ctx.has_start else None)


rows_forward.register_autograd(_differentiate, setup_context=_remember)


@torch.library.register_vmap(rows_forward)
def _(info: Any, in_dims: Any, *inputs: Tensor | None) -> Any:
    outputs = rows_forward(*(folded(x, dim, info.batch_size) for x, dim in zip(inputs, in_dims, strict=True)))
    return tuple(x.unflatten(0, (info.batch_size, -1)) for x in outputs), (0, 0, 0)


def ssd_triton(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As `gt.ops.ssd.ssd_reference`; computes in float32, y has x's dtype."""
    y, last, _ = rows_forward(x * dt.unsqueeze(-1), (dt * A).unsqueeze(-1), B, C, state)
    return (y if D is None else y + D[:, None] * x).to(x.dtype), last


def selective_triton(k: Tensor, log_w: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """As `gt.ops.selective.selective_reference`; the channels are dealt out to programs, `ROWS` each."""
    channels, d_state = k.shape[-1], B.shape[-1]
    heads = channels // min(channels, ROWS)
    k, log_w = (t.unflatten(-1, (heads, -1)) for t in (k, log_w))
    start = None if state is None else state.unflatten(1, (heads, -1))
    y, last, _ = rows_forward(k, log_w, B.unsqueeze(2), C.unsqueeze(2), start)
    return y.flatten(2), last.flatten(1, 2).view(-1, channels, d_state)
