"""What every fusion is."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from gt.models.component import Component


class Fused(NamedTuple):
    """A fusion's result."""

    y: Tensor  # (batch, time, d_model)
    gate: Tensor | None  # weight of the first branch, broadcastable to y; None where a fusion has no such weight
    state: Any = None  # what a stateful fusion carries to the next call


def blend(r: Tensor, m: Tensor, gate: Tensor) -> Tensor:
    """gate * r + (1 - gate) * m, in the wider type of the branches: under autocast one that carries its input has float32."""
    dtype = torch.promote_types(r.dtype, m.dtype)
    return torch.lerp(m.to(dtype), r.to(dtype), gate.to(dtype))


class Fusion(Component):
    """Joins r and m, each (batch, time, d_model), the outputs of two mixers on the block's normalised input.

    x is the block's own input, (batch, time, d_model). A subclass gives `name`, a docstring with `Formula:` and `Source:`, a
    nested `Config` of its options, `build`, which makes its modules and parameters, and `forward`; what it does not say
    otherwise is as in `gt.models.component`. `sequential`: it goes position by position, which a compiler would unroll.
    """

    sequential: ClassVar[bool] = False

    def __init__(self, d_model: int, **options: Any) -> None:
        super().__init__(d_model, 0, 1, options)

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: Any = None) -> Fused:
        """r, m and x: (batch, time, d_model) -> y of the same shape, gate and state. state: None, or the last piece's."""
        raise NotImplementedError

    def state_size(self) -> int:
        """Floats a sequence carries from one token to the next."""
        return 0

    def flops_per_token(self) -> int:
        """Forward floating-point operations a token; a multiply-add counts 2. Elementwise work is left out."""
        return 2 * sum(p.numel() for p in self.parameters() if p.ndim == 2)
