"""torch's norms, which on a GPU are one kernel forward and one backward."""

from __future__ import annotations

from torch import Tensor, nn

from gt.ops.fused import norm_kernel, norm_of_sum_kernel


class RMSNorm(nn.RMSNorm):
    """y = x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019, arXiv:1910.07467)."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., channel) -> the same shape."""
        assert self.eps is not None, "the kernel has no default"
        y = norm_kernel(x, self.weight, None, self.eps)
        return super().forward(x) if y is None else y

    def of_sum(self, x: Tensor, added: Tensor) -> tuple[Tensor, Tensor]:
        """x + added, and its norm."""
        assert self.eps is not None, "the kernel has no default"
        return norm_of_sum_kernel(x, added, self.weight, None, self.eps) or _both(self, x + added)


class LayerNorm(nn.LayerNorm):
    """y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias (Ba et al. 2016, arXiv:1607.06450)."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., channel) -> the same shape."""
        y = norm_kernel(x, self.weight, self.bias, self.eps, centred=True)
        return super().forward(x) if y is None else y

    def of_sum(self, x: Tensor, added: Tensor) -> tuple[Tensor, Tensor]:
        """x + added, and its norm."""
        return norm_of_sum_kernel(x, added, self.weight, self.bias, self.eps, centred=True) or _both(self, x + added)


def _both(norm: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    return x, norm(x)
