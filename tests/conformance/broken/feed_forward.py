"""Feed-forward layers."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gt.models.feed_forward.base import FeedForward


class Square(FeedForward):
    """A squared ReLU.

    Formula: y = W relu(U x)^2
    Source: an example
    Parameters: 65,536 at d_model 128
    """

    name = "square"
    breaks: ClassVar[str] = ""
    says: ClassVar[str] = ""

    def build(self, config: Any) -> None:
        self.up = nn.Linear(self.d_model, 2 * self.d_model, bias=False)
        self.down = nn.Linear(2 * self.d_model, self.d_model, bias=False)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return self.down(self.up(x).relu().square()), None


class Curious(Square):
    """It looks two positions back.

    Formula: y_t = square(x_t + x_{t-2})
    Source: an example
    Parameters: 65,536 at d_model 128
    """

    name = "curious"
    breaks = "test_a_feed_forward_layer_looks_one_position_back_at_most"
    says = r"position 5 changes when position 3 does \(by \d.*\), which is a mixer's work"

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        before = x.new_zeros(len(x), 2, self.d_model) if state is None else state
        seen = torch.cat([before, x], dim=1)
        return super().forward(x + seen[:, :-2])[0], seen[:, -2:]
