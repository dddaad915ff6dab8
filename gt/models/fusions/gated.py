"""A gate that divides one unit of weight between the branches, from what they say at a position."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gt.models.fusions.base import Fused, Fusion, blend
from gt.models.init import constant_, normal_
from gt.ops.fused import gate_kernel
from gt.options import Options, Probability, initial
from gt.seeds import Streams


class Gated(Fusion):
    """A scalar gate for each position, from both branches.

    Formula: g = sigmoid(w . [r; m] + b), y = g r + (1 - g) m
    Source: lines 72-88 (GF) and 91-136 of document 3 (the gate_init variants)
    Parameters: 257 at d_model 128

    straight_through: one branch or the other, y = r where g > 1/2 and m elsewhere, with the gradient of the blend (Bengio et
    al. 2013, arXiv:1308.3432; research document 9.8).
    """

    name: ClassVar[str] = "gated"

    class Config(Options):
        gate_init: Probability = initial(0.5, "the gate before training, where its weights are zero")
        gate_weight_init: Literal["zero", "normal"] = initial("zero", "normal: N(0, .02)")
        straight_through: bool = Field(False, description="one branch or the other, with the gradient of the blend")

    def build(self, config: Config) -> None:
        d_model = self.d_model
        self.gate_init = config.gate_init
        self.gate_weight_init, self.straight_through = config.gate_weight_init, config.straight_through
        self.exact_gradient = not config.straight_through
        self.gate = nn.Linear(2 * d_model, 1)

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: None = None) -> Fused:
        if not self.straight_through and (both := gate_kernel(r, m, self.gate.weight, self.gate.bias)) is not None:
            return Fused(*both)
        g = torch.sigmoid(self.gate(torch.cat([r, m], dim=-1)))
        if self.straight_through:
            g = (g > 0.5).to(g.dtype) + (g - g.detach())
        return Fused(blend(r, m, g), g)

    def reset_parameters(self, streams: Streams) -> None:
        # With zero weights the gate is gate_init wherever it looks.
        normal_(self.gate.weight, 0.02 if self.gate_weight_init == "normal" else 0.0, streams, "gate.weight")
        constant_(self.gate.bias, logit(self.gate_init))


class ChannelGated(Fusion):
    """A gate for each position and channel, from both branches.

    Formula: g = sigmoid(W [r; m] + b), y = g * r + (1 - g) * m
    Source: lines 106-136 of document 3 (HGF and its ratio variants)
    Parameters: 32,896 at d_model 128
    """

    name: ClassVar[str] = "channel_gated"

    class Config(Options):
        gate_init: Probability = initial(0.5, "the gate before training, where its weights are zero")
        gate_weight_init: Literal["zero", "normal"] = initial("zero", "normal: N(0, .02)")

    def build(self, config: Config) -> None:
        d_model = self.d_model
        self.gate_init, self.gate_weight_init = config.gate_init, config.gate_weight_init
        self.gate = nn.Linear(2 * d_model, d_model)

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: None = None) -> Fused:
        g = torch.sigmoid(self.gate(torch.cat([r, m], dim=-1)))
        return Fused(blend(r, m, g), g)

    def reset_parameters(self, streams: Streams) -> None:
        normal_(self.gate.weight, 0.02 if self.gate_weight_init == "normal" else 0.0, streams, "gate.weight")
        constant_(self.gate.bias, logit(self.gate_init))


def logit(probability: float) -> float:
    """The bias whose sigmoid is `probability`."""
    return float(torch.logit(torch.tensor(probability, dtype=torch.float64)))
