"""Fusions that project: the branches are joined by a matrix rather than weighed."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from gt.errors import ConfigError
from gt.models.fusions.base import Fused, Fusion
from gt.models.init import linear_, norm_
from gt.options import Count, Deviation, Options, initial
from gt.seeds import Streams


class Concatenated(Fusion):
    """One projection of both branches.

    Formula: y = W [r; m]
    Source: lines 110-120 of document 3 (CP); lines 642-649 of document 4
    Parameters: 32,768 at d_model 128

    bias: as in option 1 of document 4.
    """

    name: ClassVar[str] = "concatenated"

    class Config(Options):
        bias: bool = False

    def build(self, config: Config) -> None:
        d_model = self.d_model
        self.project = nn.Linear(2 * d_model, d_model, bias=config.bias)

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: None = None) -> Fused:
        return Fused(self.project(torch.cat([r, m], dim=-1)), None)

    def reset_parameters(self, streams: Streams) -> None:
        linear_(self.project, 0.02, streams, "project")


class ResidualProjection(Fusion):
    """The first branch as it is, plus a projection of the second.

    Formula: y = r + W m
    Source: lines 665-671 of document 4 (option 4); the earlier repository ran init_std 0.02
    Parameters: 16,384 at d_model 128

    bias: as document 4 writes it.
    """

    name: ClassVar[str] = "residual_projection"

    class Config(Options):
        init_std: Deviation = initial(0.01, "of W")
        bias: bool = False

    def build(self, config: Config) -> None:
        d_model = self.d_model
        self.init_std = config.init_std
        self.project = nn.Linear(d_model, d_model, bias=config.bias)

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: None = None) -> Fused:
        return Fused(r + self.project(m), None)

    def reset_parameters(self, streams: Streams) -> None:
        linear_(self.project, self.init_std, streams, "project")


class NormalisedMean(Fusion):
    """The mean of the normalised branches, before one shared output projection.

    Formula: y = W (RMSNorm(r) + RMSNorm(m)) / 2
    Source: Hymba (arXiv:2411.13676), equation 3; the norms' weights are its beta
    Parameters: 16,640 at d_model 128
    """

    name: ClassVar[str] = "normalised_mean"

    def build(self, config: Options) -> None:
        d_model = self.d_model
        self.r_norm = nn.RMSNorm(d_model, eps=1e-6)
        self.m_norm = nn.RMSNorm(d_model, eps=1e-6)
        self.project = nn.Linear(d_model, d_model, bias=False)

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: None = None) -> Fused:
        return Fused(self.project((self.r_norm(r) + self.m_norm(m)) / 2), None)

    def reset_parameters(self, streams: Streams) -> None:
        norm_(self.r_norm)
        norm_(self.m_norm)
        linear_(self.project, 0.02, streams, "project")


class HeadNorm(Fusion):
    """Every head of either branch normalised on its own, then one projection of them all.

    Formula: y = W [groupnorm(r); groupnorm(m)], one group for each head_size channels
    Source: HydraHead (arXiv:2606.20097), fusion on the head axis
    Parameters: 33,280 at d_model 128
    """

    name: ClassVar[str] = "head_norm"

    class Config(Options):
        head_size: Count = 32

    def build(self, config: Config) -> None:
        d_model = self.d_model
        if d_model % config.head_size:
            raise ConfigError(f"fusion.head_size: {config.head_size} does not divide d_model {d_model}.")
        self.norm = nn.GroupNorm(2 * d_model // config.head_size, 2 * d_model, eps=1e-5)
        self.project = nn.Linear(2 * d_model, d_model, bias=False)

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: None = None) -> Fused:
        both = torch.cat([r, m], dim=-1)
        return Fused(self.project(self.norm(both.flatten(0, 1)).view_as(both)), None)

    def reset_parameters(self, streams: Streams) -> None:
        norm_(self.norm)
        linear_(self.project, 0.02, streams, "project")


class ChannelSplit(Fusion):
    """A fixed share of the channels from the first branch, the rest from the second, then one projection.

    Formula: y = W [r_1..k; m_1..(d-k)], k = round(r_share d)
    Source: Falcon-H1 (arXiv:2507.22448), the channel ratio of its parallel branches
    Parameters: 16,384 at d_model 128
    """

    name: ClassVar[str] = "channel_split"

    class Config(Options):
        r_share: Annotated[float, Field(gt=0, lt=1)] = Field(0.5, description="of the channels")

    def build(self, config: Config) -> None:
        d_model = self.d_model
        self.r_channels = round(config.r_share * d_model)
        if not 0 < self.r_channels < d_model:
            raise ConfigError(f"fusion.r_share: {config.r_share} leaves a branch without channels. Allowed: between 0 and 1.")
        self.project = nn.Linear(d_model, d_model, bias=False)

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: None = None) -> Fused:
        split = torch.cat([r[..., : self.r_channels], m[..., : self.d_model - self.r_channels]], dim=-1)
        return Fused(self.project(split), None)

    def reset_parameters(self, streams: Streams) -> None:
        linear_(self.project, 0.02, streams, "project")
