"""Ways to join the outputs of two mixers."""

import torch
from pydantic import Field
from torch import Tensor, nn

from gt.models.fusions.base import Fused, Fusion
from gt.models.init import constant_
from gt.options import Options
from gt.seeds import Streams


class Product(Fusion):
    """The mean of the branches and, channel by channel, a share of their product.

    Formula: y = (r + m) / 2 + s * r * m
    Source: multiplicative interactions (Jayakumar et al., ICLR 2020)
    Parameters: 128 at d_model 128
    """

    name = "product"

    class Config(Options):
        start: float = Field(0.0, description="s before training")

    def build(self, config: Config) -> None:
        self.share = nn.Parameter(torch.empty(self.d_model))

    def reset_parameters(self, streams: Streams) -> None:
        constant_(self.share, self.config.start)

    def forward(self, r: Tensor, m: Tensor, x: Tensor, state: None = None) -> Fused:
        return Fused((r + m) / 2 + self.share * r * m, None)
