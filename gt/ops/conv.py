"""The short causal convolution in front of a recurrence, a channel at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gt.ops.backend import select_convolution


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
    y = padded[:, :time] * weight[:, 0]
    for i in range(1, taps):
        y = y + padded[:, i : i + time] * weight[:, i]
    return y if bias is None else y + bias, padded[:, padded.shape[1] - taps + 1 :].transpose(1, 2)


def silu_convolution(x: Tensor, weight: Tensor, bias: Tensor, last: Tensor | None) -> tuple[Tensor, Tensor]:
    """silu of the short convolution in x's type, rounded once, and the new `last`.

    On a GPU kernels of ours compute it from the start of a sequence: the sums of shifted products take a compiler two passes
    forward and five backward.
    """
    if last is None and select_convolution(x.device.type, x.dtype == torch.float64) == "kernel":
        from gt.ops.kernels.conv import silu_convolution as kernel

        before = weight.shape[1] - 1
        return kernel(x, weight, bias), F.pad(x, (0, 0, before, 0))[:, x.shape[1] :].transpose(1, 2)
    y, last = short_convolution(x, weight, bias, last)
    return F.silu(y).to(x.dtype), last
