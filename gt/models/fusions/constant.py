"""Fusions whose weights are the same at every position."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from gt.models.fusions.base import Fused, Fusion, blend
from gt.models.init import constant_
from gt.options import Options, initial
from gt.seeds import Streams


class Gains(Fusion):
    """A gain for each channel of each branch.

    Formula: y = g_r * r + g_m * m
    Source: lines 43-67 of document 3 (HY, with branch_norm rms); lines 146-188 of document 4 (0.5 and 0.5, without)
    Parameters: 256 at d_model 128
    """

    name: ClassVar[str] = "gains"

    class Config(Options):
        r_gain: float = initial(0.7)
        m_gain: float = initial(0.3)

    def build(self, config: Config) -> None:
        d_model = self.d_model
        self.initial = (config.r_gain, config.m_gain)
        self.r_gain = nn.Parameter(torch.empty(d_model))
        self.m_gain = nn.Parameter(torch.empty(d_model))

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: None = None) -> Fused:
        return Fused(self.r_gain * r + self.m_gain * m, None)

    def reset_parameters(self, streams: Streams) -> None:
        constant_(self.r_gain, self.initial[0])
        constant_(self.m_gain, self.initial[1])


class Weighted(Fusion):
    """One learned weight for the whole layer, free to leave [0, 1].

    Formula: y = a r + (1 - a) m
    Source: lines 131-144 of document 3 (WS)
    Parameters: 1 at d_model 128
    """

    name: ClassVar[str] = "weighted"

    class Config(Options):
        gate_init: float = initial(0.5, "a, which may leave [0, 1]")

    def build(self, config: Config) -> None:
        self.gate_init = config.gate_init
        self.weight = nn.Parameter(torch.empty(1))

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: None = None) -> Fused:
        return Fused(blend(r, m, self.weight), self.weight)

    def reset_parameters(self, streams: Streams) -> None:
        constant_(self.weight, self.gate_init)


class Residual(Fusion):
    """The first branch as it is, plus a learned share of the second.

    Formula: y = r + a m
    Source: lines 146-162 of document 3 (RF)
    Parameters: 1 at d_model 128
    """

    name: ClassVar[str] = "residual"

    class Config(Options):
        scale_init: float = initial(0.3, "a")

    def build(self, config: Config) -> None:
        self.scale_init = config.scale_init
        self.scale = nn.Parameter(torch.empty(1))

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: None = None) -> Fused:
        return Fused(r + self.scale.to(m.dtype) * m, None)

    def reset_parameters(self, streams: Streams) -> None:
        constant_(self.scale, self.scale_init)


class Sum(Fusion):
    """Fixed multipliers, nothing learned: the control for every gate.

    Formula: y = c_r r + c_m m
    Source: Falcon-H1 (arXiv:2507.22448), parallel block with fixed multipliers
    Parameters: 0 at d_model 128
    """

    name: ClassVar[str] = "sum"

    class Config(Options):
        r_multiplier: float = Field(1.0, description="c_r")
        m_multiplier: float = Field(1.0, description="c_m")

    def build(self, config: Config) -> None:
        self.r_multiplier, self.m_multiplier = config.r_multiplier, config.m_multiplier

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: None = None) -> Fused:
        return Fused(self.r_multiplier * r + self.m_multiplier * m, None)

    def reset_parameters(self, streams: Streams) -> None:
        """Nothing to set."""
