"""torch's linear layer, whose bias is summed over a sequence before it is summed over sequences."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gt.ops.fused import bias_kernel, linear_kernel
from gt.ops.spread import over_sequences


def product(x: Tensor, weight: Tensor) -> Tensor:
    """W x, of x (batch, time, d_in) and W (d_out, d_in)."""
    y = linear_kernel(x, weight)
    return F.linear(x, weight) if y is None else y


class Linear(nn.Linear):
    """y = W x + b."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, time, d_in) -> (batch, time, d_out)."""
        return self.biased(product(x, self.weight))

    def biased(self, y: Tensor) -> Tensor:
        """W x with the bias, if there is one."""
        if self.bias is None:
            return y
        summed = bias_kernel(y, self.bias)
        return y + over_sequences(self.bias, y).to(y.dtype) if summed is None else summed
