"""Causal attention of short sequences, whose scores are one tile (Vaswani et al. 2017, arXiv:1706.03762, equation 1).

    y = softmax(q k^T / sqrt(D) + mask) v

A program has a sequence and a head, reads q, k and v from where the projection left them, adds its bias, and writes their
gradients where the projection's backward pass reads them: nothing is copied, and nothing but the projection is kept. Products
of bfloat16 factors, sums and the softmax in float32.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels.launch import apart, assert_contiguous, fold_runs, lined
from gt.ops.kernels.products import product

LONGEST = 128  # positions of a tile


@triton.jit
def _read(qkv, bias, which: tl.constexpr, b, h, t, channel, T, of_qkv, H, D: tl.constexpr):
    """q, k or v of a head with its bias, rounded as activations are, and where it stands in a row."""
    place = (which * H + h) * D + channel
    there = (t < T)[:, None] & (channel < D)[None, :]
    x = tl.load(qkv + (b * T + t)[:, None] * of_qkv + place[None, :], mask=there, other=0.0)
    if bias is not None:
        x = x.to(tl.float32) + tl.load(bias + place, mask=channel < D, other=0.0).to(tl.float32)[None, :]
        x = tl.where(there, x, 0.0)
    return x.to(tl.bfloat16), place, there


@triton.jit
def _weights(q, k, t, T, scale):
    """softmax of the scores of positions that may be looked at."""
    scores = product(q, tl.trans(k)) * scale
    scores = tl.where((t[None, :] <= t[:, None]) & (t < T)[None, :], scores, float("-inf"))
    p = tl.exp(scores - tl.max(scores, axis=1)[:, None])
    return p / tl.sum(p, axis=1)[:, None]


@triton.jit
def attention_forward_kernel(
    qkv, bias, y, T, H, per_run, of_qkv, of_bias, scale, D: tl.constexpr, TIME: tl.constexpr, C: tl.constexpr
):
    """qkv (B, T, 3 H D) whose rows stand of_qkv numbers apart, bias (B / per_run, 3 H D) of runs that stand of_bias apart, or
    None -> y (B, T, H D). Programs: (B * H).
    """
    program = tl.program_id(0).to(tl.int64)
    b, h = program // H, program % H
    t, channel = tl.arange(0, TIME), tl.arange(0, C)
    if bias is not None:
        bias += b // per_run * of_bias
    q, place, there = _read(qkv, bias, 0, b, h, t, channel, T, of_qkv, H, D)
    k, _, _ = _read(qkv, bias, 1, b, h, t, channel, T, of_qkv, H, D)
    v, _, _ = _read(qkv, bias, 2, b, h, t, channel, T, of_qkv, H, D)
    y_t = product(_weights(q, k, t, T, scale), v)
    tl.store(y + (b * T + t)[:, None] * H * D + place[None, :], y_t.to(y.dtype.element_ty), mask=there)


@triton.jit
def attention_backward_kernel(
    qkv, bias, dy, dqkv, dbias, T, H, per_run, of_qkv, of_bias, scale, D: tl.constexpr, TIME: tl.constexpr, C: tl.constexpr
):
    """dy as y -> dqkv (B, T, 3 H D) and, where there is a bias, dbias (B, 3 H D)."""
    program = tl.program_id(0).to(tl.int64)
    b, h = program // H, program % H
    t, channel = tl.arange(0, TIME), tl.arange(0, C)
    own = bias
    if bias is not None:
        own += b // per_run * of_bias
    q, at_q, there = _read(qkv, own, 0, b, h, t, channel, T, of_qkv, H, D)
    k, at_k, _ = _read(qkv, own, 1, b, h, t, channel, T, of_qkv, H, D)
    v, at_v, _ = _read(qkv, own, 2, b, h, t, channel, T, of_qkv, H, D)
    p = _weights(q, k, t, T, scale)
    d = tl.load(dy + (b * T + t)[:, None] * H * D + at_q[None, :], mask=there, other=0.0).to(tl.bfloat16)
    rows = (b * T + t)[:, None] * 3 * H * D
    dv = product(tl.trans(p.to(tl.bfloat16)), d)
    tl.store(dqkv + rows + at_v[None, :], dv.to(dqkv.dtype.element_ty), mask=there)
    dp = product(d, tl.trans(v))
    ds = p * (dp - tl.sum(p * dp, axis=1)[:, None]) * scale
    dq = product(ds, k)
    tl.store(dqkv + rows + at_q[None, :], dq.to(dqkv.dtype.element_ty), mask=there)
    dk = product(tl.trans(ds.to(tl.bfloat16)), q)
    tl.store(dqkv + rows + at_k[None, :], dk.to(dqkv.dtype.element_ty), mask=there)
    if bias is not None:
        dbias += b * 3 * H * D
        _store_sums(dbias, at_q, dq, channel, D, TIME)
        _store_sums(dbias, at_k, dk, channel, D, TIME)
        _store_sums(dbias, at_v, dv, channel, D, TIME)


@triton.jit
def _store_sums(sums, place, x, channel, D: tl.constexpr, TIME: tl.constexpr):
    """The sum of x (TIME, C) over its rows, as a product with ones: adding rows up was a sixth of the kernel's time."""
    row = tl.arange(0, 64)[:, None]  # all alike, of which the first is kept
    total = product(tl.full([64, TIME], 1.0, tl.float32), x)
    tl.store(sums + 0 * row + place[None, :], total, mask=(row == 0) & (channel < D)[None, :])


def serves(time: int, head_size: int) -> bool:
    """Whether a sequence's scores and a head's channels are one tile."""
    return time <= LONGEST and head_size <= 128


def _tile(qkv: Tensor, heads: int) -> tuple[int, int, int, int]:
    """The size of a head, positions and channels of a tile, and warps."""
    size = qkv.shape[2] // 3 // heads
    time = max(16, triton.next_power_of_2(qkv.shape[1]))
    return size, time, max(16, triton.next_power_of_2(size)), 4 if time <= 64 else 8


@torch.library.custom_op("gt::attention", mutates_args=())
def attention_forward(qkv: Tensor, bias: Tensor | None, heads: int) -> Tensor:
    """qkv (B, T, 3 C), queries, keys and values one after the other and in each head after head; bias (R, 3 C) or None, where
    B / R sequences are a run's -> y (B, T, C).
    """
    qkv = lined(qkv)
    B, T, wide = qkv.shape
    y = qkv.new_empty(B, T, wide // 3)
    size, time, channels, warps = _tile(qkv, heads)
    runs = 1 if bias is None else len(bias)
    attention_forward_kernel[(B * heads,)](
        qkv, bias, y, T, heads, B // runs, apart(qkv), apart(bias), size**-0.5, size, time, channels, num_warps=warps
    )
    return y


@torch.library.custom_op("gt::attention_backward", mutates_args=())
def attention_backward(qkv: Tensor, bias: Tensor | None, dy: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """The gradients of qkv, and of bias that of each sequence (B, 3 C), nothing if there is none."""
    assert_contiguous(dy)
    qkv = lined(qkv)
    B, T, _ = qkv.shape
    dqkv, dbias = gradients = _gradients(qkv, bias)
    size, time, channels, warps = _tile(qkv, heads)
    runs = 1 if bias is None else len(bias)
    attention_backward_kernel[(B * heads,)](
        qkv, bias, dy, dqkv, dbias, T, heads, B // runs, apart(qkv), apart(bias), size**-0.5, size, time, channels,
        num_warps=warps,
    )  # fmt: skip
    return gradients


def _gradients(qkv: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    shape = (0,) if bias is None else (len(qkv), qkv.shape[2])
    return qkv.new_empty(qkv.shape), qkv.new_empty(shape, dtype=torch.float32)


@attention_forward.register_fake
def _(qkv: Tensor, bias: Tensor | None, heads: int) -> Tensor:
    return qkv.new_empty(*qkv.shape[:2], qkv.shape[2] // 3)


@attention_backward.register_fake
def _(qkv: Tensor, bias: Tensor | None, dy: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    return _gradients(qkv, bias)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.heads = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    qkv, bias = ctx.saved_tensors
    dqkv, dbias = attention_backward(qkv, bias, dy.contiguous(), ctx.heads)
    return dqkv, None if bias is None else dbias.unflatten(0, (len(bias), -1)).sum(1).to(bias.dtype), None


attention_forward.register_autograd(_differentiate, setup_context=_remember)
fold_runs(attention_forward)
