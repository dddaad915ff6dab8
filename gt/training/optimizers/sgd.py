"""Gradient descent."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from gt.options import Decay, Options
from gt.training.optimizers.base import Optimizer


class SGD(Optimizer):
    """Gradient descent with heavy-ball momentum; weight decay is a part of the gradient, as in torch.optim.SGD.

    Formula: m = b m + g + d w, w = w - lr m
    Source: Polyak, USSR Computational Mathematics and Mathematical Physics 4(5), 1964
    """

    name = "sgd"

    class Config(Options):
        momentum: Decay = Field(0.9, description="share of the last step's sum; 0: none")

    def build(self) -> None:
        self.state["momentum"] = self.flat.zeros()

    def update(self, gradient: Tensor, rates: Tensor) -> Tensor:
        momentum = self.state["momentum"]
        momentum.mul_(self.options.momentum).add_(gradient + self.decay * self.weights)
        return rates * momentum

    def shrink(self, rates: Tensor) -> None:
        """Nothing more."""
