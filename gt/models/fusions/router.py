"""A router: a mixture of the two branches as experts."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from gt.models.fusions.base import Fused, Fusion, blend
from gt.models.init import linear_
from gt.options import Options
from gt.seeds import Streams


class Router(Fusion):
    """Two experts over a shared latent, the block's input, weighed by a softmax of it; or only the better one.

    Formula: p = softmax(W x), y = p_0 r + p_1 m; with choice "top1": y = p_i (r or m), i = argmax p
    Source: lines 35-42 of document 0 (shape unspecified there); Fedus et al. 2021 (arXiv:2101.03961), equation 2
    Parameters: 256 at d_model 128
    """

    name: ClassVar[str] = "router"

    class Config(Options):
        choice: Literal["soft", "top1"] = "soft"

    def build(self, config: Config) -> None:
        d_model = self.d_model
        self.choice = config.choice
        self.route = nn.Linear(d_model, 2, bias=False)

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: None = None) -> Fused:
        gate = torch.softmax(self.route(x), dim=-1)[..., :1]
        p = gate.to(r.dtype)
        if self.choice == "soft":
            return Fused(blend(r, m, gate), gate)
        return Fused(torch.where(p > 0.5, p * r, (1 - p) * m), gate)

    def reset_parameters(self, streams: Streams) -> None:
        linear_(self.route, 0.02, streams, "route")
