"""The short causal convolution with its SiLU, as one kernel forward and one backward.

A program has a sequence, some channels and some positions. Backward computes again what SiLU was taken of; the sums over
positions leave it as a part a program and are taken in a fixed order.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gt.ops.kernels.launch import assert_contiguous, contiguous, folded

CHANNELS, POSITIONS, WARPS = 64, 16, 4  # of a program


@triton.jit
def _taps(w, channels, there, TAPS: tl.constexpr):
    """The weights as a tuple, that of x_t first."""
    taps = ()
    for i in tl.static_range(TAPS):
        taps = taps + (tl.load(w + channels * TAPS + TAPS - 1 - i, mask=there, other=0.0)[None, :],)  # type: ignore[assignment]
    return taps


@triton.jit
def _shifted(x, at, channels, there, T, row_stride, FIRST: tl.constexpr, LAST: tl.constexpr):
    """x_{t-i} for i from FIRST to LAST - 1 as a tuple of tiles (position, channel); zeros outside of the sequence."""
    tiles = ()
    for i in tl.static_range(FIRST, LAST):
        s = at - i
        inside = ((s >= 0) & (s < T))[:, None] & there[None, :]
        tiles = tiles + (tl.load(x + s[:, None] * row_stride + channels[None, :], mask=inside, other=0.0).to(tl.float32),)  # type: ignore[assignment]
    return tiles


@triton.jit
def convolution_forward_kernel(
    x, w, bias, y, T, C, sequence_stride, row_stride, per_run,
    TAPS: tl.constexpr, BT: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    sequence = tl.program_id(2).to(tl.int64)
    at, channels = tl.program_id(1) * BT + tl.arange(0, BT), tl.program_id(0) * BC + tl.arange(0, BC)
    there, run = channels < C, sequence // per_run
    x, y = x + sequence * sequence_stride, y + sequence * T * C
    taps, xs = _taps(w + run * C * TAPS, channels, there, TAPS), _shifted(x, at, channels, there, T, row_stride, 0, TAPS)
    z = tl.load(bias + run * C + channels, mask=there, other=0.0)[None, :]
    for i in tl.static_range(TAPS):
        z += taps[i] * xs[i]
    to = at[:, None] * C + channels[None, :]
    tl.store(y + to, (z * tl.sigmoid(z)).to(y.dtype.element_ty), mask=(at < T)[:, None] & there[None, :])


@triton.jit
def convolution_backward_kernel(
    x, w, bias, dy, dx, dw, db, T, C, sequence_stride, row_stride, per_run,
    TAPS: tl.constexpr, BT: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    sequence = tl.program_id(2).to(tl.int64)
    at, channels = tl.program_id(1) * BT + tl.arange(0, BT), tl.program_id(0) * BC + tl.arange(0, BC)
    there, run = channels < C, sequence // per_run
    part = (sequence * tl.num_programs(1) + tl.program_id(1)) * C
    x, dy, dx = x + sequence * sequence_stride, dy + sequence * T * C, dx + sequence * T * C
    taps = _taps(w + run * C * TAPS, channels, there, TAPS)
    xs = _shifted(x, at, channels, there, T, row_stride, 1 - TAPS, TAPS)  # x_t is xs[TAPS - 1]
    dx_c = tl.zeros([BT, BC], tl.float32)
    for i in tl.static_range(TAPS):
        t = at + i  # what x at `at` acts on through tap i
        z = tl.load(bias + run * C + channels, mask=there, other=0.0)[None, :]
        for j in tl.static_range(TAPS):
            z += taps[j] * xs[TAPS - 1 - i + j]
        gate = tl.sigmoid(z)
        mask = (t < T)[:, None] & there[None, :]
        dz = tl.load(dy + t[:, None] * C + channels[None, :], mask=mask, other=0.0).to(tl.float32)
        dz *= gate * (1 + z * (1 - gate))
        dx_c += taps[i] * dz
        tl.store(dw + (part + channels) * TAPS + TAPS - 1 - i, tl.sum(dz * xs[TAPS - 1], axis=0), mask=there)
        if i == 0:
            tl.store(db + part + channels, tl.sum(dz, axis=0), mask=there)
    tl.store(dx + at[:, None] * C + channels[None, :], dx_c.to(dx.dtype.element_ty), mask=(at < T)[:, None] & there[None, :])


def _grid(x: Tensor) -> tuple[int, int, int]:
    batch, time, channels = x.shape
    return triton.cdiv(channels, CHANNELS), triton.cdiv(time, POSITIONS), batch


def _gradients(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Room for those of x, weight and bias; of the last two a part for each sequence and block of positions."""
    parts = (x.shape[0], -(-x.shape[1] // POSITIONS), x.shape[2])
    dw, db = (x.new_empty(*parts, *shape, dtype=torch.float32) for shape in (weight.shape[2:], ()))
    return torch.empty_like(x, memory_format=torch.contiguous_format), dw, db


@torch.library.custom_op("gt::silu_convolution", mutates_args=())
def convolution_forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """silu(b + sum over i < taps of weight[taps - 1 - i] * x_{t-i}), in x's dtype.

    x (B, T, channel), its channels next to each other; weight (G, channel, taps) and bias (G, channel) in float32; row b has
    those of run b // (B / G).
    """
    assert_contiguous(weight, bias, x[0, 0])
    (B, T, C), y = x.shape, torch.empty_like(x, memory_format=torch.contiguous_format)
    convolution_forward_kernel[_grid(x)](
        x, weight, bias, y, T, C, x.stride(0), x.stride(1), B // weight.shape[0], weight.shape[2], POSITIONS, CHANNELS,
        num_warps=WARPS,
    )  # fmt: skip
    return y


@torch.library.custom_op("gt::silu_convolution_backward", mutates_args=())
def convolution_backward(x: Tensor, weight: Tensor, bias: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, weight and bias: (B, block of positions, channel, taps) and (B, block, channel), to be summed."""
    assert_contiguous(weight, bias, x[0, 0], dy)
    (B, T, C), gradients = x.shape, _gradients(x, weight)
    convolution_backward_kernel[_grid(x)](
        x, weight, bias, dy, *gradients, T, C, x.stride(0), x.stride(1), B // weight.shape[0], weight.shape[2], POSITIONS,
        CHANNELS, num_warps=WARPS,
    )  # fmt: skip
    return gradients


@convolution_forward.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@convolution_backward.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _gradients(x, weight)


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, weight, bias = ctx.saved_tensors
    dx, *parts = convolution_backward(x, weight, bias, dy.contiguous())
    dw, db = (part.unflatten(0, (weight.shape[0], -1)).sum((1, 2)) for part in parts)
    return dx, dw, db


def _over_runs(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
    """Runs become part of the batch; each keeps its own weights."""
    x, weight, bias = (folded(t, dim, info.batch_size) for t, dim in zip(inputs, in_dims, strict=True))
    return convolution_forward(x, contiguous(weight), contiguous(bias)).unflatten(0, (info.batch_size, -1)), 0


convolution_forward.register_autograd(_differentiate, setup_context=_remember)
convolution_forward.register_vmap(_over_runs)


def silu_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """silu of `gt.ops.conv.short_convolution` at the start of a sequence, in x's dtype."""
    y: Tensor = convolution_forward(x, weight.unsqueeze(0).contiguous(), bias.unsqueeze(0).contiguous())
    return y
