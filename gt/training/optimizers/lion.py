"""Steps of one size."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from gt.options import Decay, Options
from gt.training.optimizers.base import Optimizer


class Lion(Optimizer):
    """The sign of a mean of the gradient and its running mean; decoupled weight decay.

    Formula: w = w - lr sign(b1 m + (1 - b1) g) - lr d w, then m = b2 m + (1 - b2) g
    Source: Chen et al., arXiv:2302.06675 (with beta2 0.99)
    """

    name = "lion"

    class Config(Options):
        beta1: Decay = Field(0.9, description="share of the running mean in what a step is the sign of")
        beta2: Decay = Field(0.95, description="of the running mean of the gradient")

    def build(self) -> None:
        self.state["momentum"] = self.flat.zeros()

    def update(self, gradient: Tensor, rates: Tensor) -> Tensor:
        momentum = self.state["momentum"]
        update = rates * torch.lerp(gradient, momentum, self.options.beta1).sign()
        momentum.lerp_(gradient, 1 - self.options.beta2)
        return update
