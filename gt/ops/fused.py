"""What stands between recurrences and products, in one pass on a GPU. Each gives None where no kernel serves."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gt.ops.backend import fused


def norm_kernel(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    groups: int = 1,
    centred: bool = False,
    gate: Tensor | None = None,
    gate_place: str = "last",
) -> Tensor | None:
    """x (..., channel) with each of its groups of channels divided by its root mean square, times weight, plus bias (channel,);
    of `centred` groups the mean is taken off before. gate, of x's shape: silu(gate) is multiplied on x ("first") or on the
    result ("last"). In the dtype that products are taken in. None where no kernel serves: of groups, powers of two alone.
    """
    channels = x.shape[-1]
    if not fused(x.device.type, x.dtype == torch.float64) or (groups > 1 and channels & (channels - 1)):
        return None
    from gt.ops.kernels.norm import norm_forward

    own = None if bias is None else bias.unsqueeze(0)
    place = "" if gate is None else gate_place
    y: Tensor = norm_forward(x, gate, weight.unsqueeze(0), own, groups, eps, centred, place, _of_products(x, weight))
    return y


def norm_of_sum_kernel(
    x: Tensor, added: Tensor, weight: Tensor, bias: Tensor | None, eps: float, centred: bool = False
) -> tuple[Tensor, Tensor] | None:
    """x + added, both (..., channel), and its norm as `norm_kernel` gives it."""
    if not fused(x.device.type, x.dtype == torch.float64):
        return None
    from gt.ops.kernels.norm import norm_of_sum_forward

    own = None if bias is None else bias.unsqueeze(0)
    dtype = _of_products(x, weight)
    result: tuple[Tensor, Tensor] = norm_of_sum_forward(x, added, weight.unsqueeze(0), own, eps, centred, dtype)
    return result


def _of_products(x: Tensor, weight: Tensor) -> torch.dtype:
    """The dtype that products are taken in."""
    if torch.is_autocast_enabled("cuda"):
        return torch.get_autocast_dtype("cuda")
    return torch.promote_types(x.dtype, weight.dtype)


def shift_kernel(x: Tensor, z: Tensor | None, bias: Tensor, last: int = 0) -> tuple[Tensor, Tensor] | None:
    """x (batch, time, channel) -> x_t + (x_{t-1} - x_t) * (z_i,t + bias_i) for each mix i but `last`, (mix - 1, batch, time,
    channel), and that one, (batch, time, channel), with x_{-1} = 0. z: (mix, batch, time, channel), or None for zeros; bias:
    (mix, channel).
    """
    if not fused(x.device.type, x.dtype == torch.float64):
        return None
    from gt.ops.kernels.shift import shift_forward

    y, of_last = shift_forward(x.contiguous(), z if z is None else z.contiguous(), bias.unsqueeze(0), last)
    return y.squeeze(0), of_last


def conv_kernel(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor | None:
    """silu of a causal convolution, a channel at a time, of x (batch, time, channel) with weight (channel, taps), whose last is
    that of the position itself, and bias (channel,); in the type of x.
    """
    if not fused(x.device.type, x.dtype == torch.float64):
        return None
    from gt.ops.kernels.conv import conv_forward

    y: Tensor = conv_forward(x, weight.unsqueeze(0), bias.unsqueeze(0), x.dtype)
    return y


def gate_kernel(r: Tensor, m: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor] | None:
    """g r + (1 - g) m and the gate g = sigmoid(weight . [r; m] + bias) of each position (..., 1), for r and m (..., channel) of
    one dtype, weight (1, 2 channel) and bias (1,).
    """
    if not fused(r.device.type, torch.float64 in (r.dtype, m.dtype)) or r.dtype != m.dtype:
        return None
    from gt.ops.kernels.gate import gate_forward

    result: tuple[Tensor, Tensor] = gate_forward(r.contiguous(), m.contiguous(), weight, bias)
    return result


def bias_kernel(x: Tensor, bias: Tensor) -> Tensor | None:
    """x (..., channel) + bias (channel,), in the type of x."""
    if not fused(x.device.type, x.dtype == torch.float64):
        return None
    from gt.ops.kernels.bias import bias_forward

    y: Tensor = bias_forward(x.contiguous(), bias.unsqueeze(0))
    return y


def gelu_kernel(x: Tensor, bias: Tensor | None, tanh: bool) -> Tensor | None:
    """gelu(x + bias), x (..., channel), bias (channel,) or None. tanh: its approximation."""
    if not fused(x.device.type, x.dtype == torch.float64):
        return None
    from gt.ops.kernels.gelu import gelu_forward

    y: Tensor = gelu_forward(x.contiguous(), None if bias is None else bias.unsqueeze(0), tanh)
    return y


def attention_kernel(qkv: Tensor, bias: Tensor | None, heads: int) -> Tensor | None:
    """Causal attention of qkv (batch, time, 3 channel) + bias -> (batch, time, channel). None where no kernel serves: of
    bfloat16 activations alone, and of short sequences.
    """
    if qkv.dtype != torch.bfloat16 or not fused(qkv.device.type, double=False):
        return None
    from gt.ops.kernels.attention import attention_forward, serves

    if not serves(qkv.shape[1], qkv.shape[2] // 3 // heads):
        return None
    y: Tensor = attention_forward(qkv, None if bias is None else bias.unsqueeze(0), heads)
    return y


def embedding_kernel(tokens: Tensor, table: Tensor) -> Tensor | None:
    """Rows of table (vocabulary, channel) for tokens (batch, time), whose gradient is a sum in a fixed order. None where no
    kernel serves: of small vocabularies alone.
    """
    if not fused(table.device.type, table.dtype == torch.float64):
        return None
    from gt.ops.kernels.embedding import LARGEST, embedding_forward

    if len(table) > LARGEST:
        return None
    y: Tensor = embedding_forward(tokens.contiguous(), table.unsqueeze(0))
    return y


def cross_entropy_kernel(logits: Tensor, targets: Tensor) -> Tensor | None:
    """Nats of targets (...) by logits (..., vocabulary), in float32: 0 of a target that is negative, and does not count."""
    if not fused(logits.device.type, logits.dtype == torch.float64):
        return None
    from gt.ops.kernels.cross_entropy import cross_entropy_forward

    losses: Tensor = cross_entropy_forward(logits.contiguous(), targets.contiguous())[0]
    return losses


def linear_kernel(x: Tensor, weight: Tensor) -> Tensor | None:
    """weight x, of x (..., in) and weight (out, in), in the dtype that products are taken in."""
    if not fused(x.device.type, torch.float64 in (x.dtype, weight.dtype)):
        return None
    from gt.ops.kernels.linear import linear_forward

    dtype = _of_products(x, weight)
    y: Tensor = linear_forward(x.to(dtype), weight.to(dtype).unsqueeze(0))
    return y


def aligned(weight: Tensor) -> Tensor:
    """A matrix (out, in) whose products have rows that kernels read 16 numbers at a time: with rows of zeros, where a GPU wants
    them.
    """
    if not fused(weight.device.type, weight.dtype == torch.float64):
        return weight
    return F.pad(weight, (0, 0, 0, -len(weight) % 16))
