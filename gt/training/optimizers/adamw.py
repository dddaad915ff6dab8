"""Adam with decoupled weight decay."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gt.options import Decay, Options
from gt.training.optimizers.base import Optimizer


class AdamW(Optimizer):
    """The gradient's running mean over the root of that of its square, each freed of its start at zero; decoupled weight decay.

    Formula: m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, w = w - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) - lr d w
    Source: Loshchilov and Hutter, arXiv:1711.05101; Kingma and Ba, arXiv:1412.6980
    """

    name = "adamw"

    class Config(Options):
        beta1: Decay = Field(0.9, description="of the running mean of the gradient")
        beta2: Decay = Field(0.95, description="of the running mean of its square")
        epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-8

    def build(self) -> None:
        self.moments(self.flat.zeros())

    def moments(self, like: Tensor) -> None:
        """Start both running means at zero, in the shape of what is to be updated."""
        self.state |= {"momentum": torch.zeros_like(like), "variance": torch.zeros_like(like)}
        self.exact = self.of_runs("beta1", torch.float64), self.of_runs("beta2", torch.float64)

    def update(self, gradient: Tensor, rates: Tensor) -> Tensor:
        momentum, variance = self.state["momentum"], self.state["variance"]
        momentum.lerp_(gradient, 1 - self.options.beta1)
        variance.mul_(self.options.beta2).add_((1 - self.options.beta2) * gradient.square())
        first, second = self.corrections()
        return (rates / first) * momentum / (variance.sqrt() / second + self.options.epsilon)

    def corrections(self) -> tuple[Tensor, Tensor]:
        """What the mean and the root of the square's mean are divided by, (run, 1, 1), as they have started at zero."""
        # in double precision: 1 - beta^t is small at first
        of_mean, of_square = (1 - beta ** self.state["steps"] for beta in self.exact)
        return of_mean.to(self.flat.dtype), of_square.sqrt().to(self.flat.dtype)

    def begin_pass(self, rates: Tensor) -> tuple[Tensor, Tensor]:
        """Count a step. Returns what `step_in_one_pass` wants: rates (run, block), and what differs from run to run."""
        self.state["steps"] += 1
        of_run = [self.options.beta1, self.options.beta2, *self.corrections(), self.options.epsilon]
        rate = self.flat.by_block(rates.to(self.flat.dtype)).squeeze(2)
        return rate, torch.cat([own.view(-1, 1) for own in of_run], dim=1)

    def step_in_one_pass(
        self, gradient: Tensor, factor: Tensor, rate: Tensor, of_run: Tensor, last: Tensor, copy: Tensor | None
    ) -> Tensor:
        """`step` by a kernel (`gt.ops.kernels.adamw`), of the gradient times factor (run, block), where `last` is the gradient
        before and becomes this one, and `copy` the new weights in its dtype. Returns the sums of each block that the kernel
        takes, (run, block, sum).
        """
        from gt.ops.kernels.adamw import adamw_

        momentum, variance = self.state["momentum"], self.state["variance"]
        return adamw_(self.weights, momentum, variance, last, gradient, factor, rate, self.decay.squeeze(2), of_run, copy)
