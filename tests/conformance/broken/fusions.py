"""Fusions."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gt.models.fusions.base import Fused, Fusion
from gt.models.init import constant_
from gt.seeds import Streams


class Share(Fusion):
    """A learned share of each branch.

    Formula: y = a r + (1 - a) m
    Source: an example
    Parameters: 128 at d_model 128
    """

    name = "share"
    breaks: ClassVar[str] = ""
    says: ClassVar[str] = ""

    def build(self, config: Any) -> None:
        self.a = nn.Parameter(torch.empty(self.d_model))

    def reset_parameters(self, streams: Streams) -> None:
        constant_(self.a, 0.5)

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: Any = None) -> Fused:
        return Fused(torch.lerp(m, r, self.a.to(r.dtype)), self.a)


class Levelled(Share):
    """It takes the mean over time.

    Formula: y = share - mean over time
    Source: an example
    Parameters: 128 at d_model 128
    """

    name = "levelled"
    breaks = "test_it_is_causal"
    says = "position 0 changes when position 1 does"

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: Any = None) -> Fused:
        y, gate, _ = super().forward(r, m, x)
        return Fused(y - y.mean(1, keepdim=True), gate)


class Stateful(Share):
    """It keeps a state that it does not count.

    Formula: y = share + the mean of x so far
    Source: an example
    Parameters: 128 at d_model 128
    """

    name = "stateful"
    breaks = "test_the_state_is_counted"
    says = r"after 1 tokens its state has 16 numbers a sequence, where state_size\(\) says 0"

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: Any = None) -> Fused:
        y, gate, _ = super().forward(r, m, x)
        sums = x.cumsum(1) if state is None else state.unsqueeze(1) + x.cumsum(1)
        return Fused(y + 0.1 * sums, gate, sums[:, -1])
