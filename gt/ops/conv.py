"""The short causal convolution in front of a recurrence, a channel at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gt.ops.fused import conv_kernel
from gt.ops.spread import over_sequences


def silu_of_short_convolution(x: Tensor, weight: Tensor, bias: Tensor, last: Tensor | None) -> tuple[Tensor, Tensor]:
    """silu of `short_convolution`, in the type of x, and the new `last`."""
    if last is None and (y := conv_kernel(x, weight, bias)) is not None:
        wanted = weight.shape[1] - 1
        ends = x[:, max(0, x.shape[1] - wanted) :]
        return y, F.pad(ends, (0, 0, wanted - ends.shape[1], 0)).transpose(1, 2)
    y, last = short_convolution(x, weight, bias, last)
    return F.silu(y).to(x.dtype), last


def short_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, last: Tensor | None) -> tuple[Tensor, Tensor]:
    """y_t = b + sum over i < taps of weight[taps - 1 - i] * x_{t-i}.

    x: (batch, time, channel); weight: (channel, taps), bias: (channel,); last: the taps - 1 inputs before x, (batch, channel,
    taps - 1), or None at the start of a sequence. Returns y like x, in the wider type of x and weight, and the new `last`.

    A sum of shifted products: with so few taps a compiler makes one pass of it, forward and backward, where a library's
    depthwise convolution needs several and changes the layout. Its gradients are sums in a fixed order.
    """
    time, taps = x.shape[1], weight.shape[1]
    if last is None:
        last = x.new_zeros(x.shape[0], x.shape[2], taps - 1)
    padded = torch.cat([last.to(x.dtype).transpose(1, 2), x], dim=1)
    first, *others = (over_sequences(weight[:, i], x) for i in range(taps))
    y = padded[:, :time] * first
    for i, own in enumerate(others, start=1):
        y = y + padded[:, i : i + time] * own
    return y if bias is None else y + over_sequences(bias, x), padded[:, time:].transpose(1, 2)
