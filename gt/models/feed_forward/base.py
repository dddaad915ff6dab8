"""What every feed-forward layer is."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gt.models.component import Component


class FeedForward(Component):
    """Looks at one position, and at most at the one before.

    A subclass gives `name`, a docstring with `Formula:` and `Source:`, a nested `Config` of its options, `build` and `forward`;
    what it does not say otherwise is as in `gt.models.component`.
    """

    def __init__(self, d_model: int, layer: int, n_layer: int, **options: Any) -> None:
        super().__init__(d_model, layer, n_layer, options)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """x: (batch, time, d_model) -> (y of the same shape, what the next piece needs of this one)."""
        raise NotImplementedError

    def state_size(self, context: int) -> int:
        """Floats that a sequence carries from one token to the next."""
        return self.counted(context)[0]

    def flops_per_token(self, context: int) -> int:
        """Forward floating-point operations a token; a multiply-add counts 2."""
        return self.counted(context)[1]
