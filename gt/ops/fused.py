"""What stands between recurrences and products, in one pass on a GPU. Each gives None where no kernel serves."""

from __future__ import annotations

import torch
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

    dtype = (
        torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else torch.promote_types(x.dtype, weight.dtype)
    )
    own = None if bias is None else bias.unsqueeze(0)
    place = "" if gate is None else gate_place
    y: Tensor = norm_forward(x, gate, weight.unsqueeze(0), own, groups, eps, centred, place, dtype)
    return y


def shift_kernel(x: Tensor, z: Tensor | None, bias: Tensor, last: int = 0) -> Tensor | None:
    """x (batch, time, channel) -> x_t + (x_{t-1} - x_t) * (z_i,t + bias_i) for each mix i, (mix, batch, time, channel), with
    x_{-1} = 0 and mix `last` after the others. z: (mix, batch, time, channel), or None for zeros; bias: (mix, channel).
    """
    if not fused(x.device.type, x.dtype == torch.float64):
        return None
    from gt.ops.kernels.shift import shift_forward

    y: Tensor = shift_forward(x.contiguous(), z if z is None else z.contiguous(), bias.unsqueeze(0), last)
    return y.squeeze(0)
