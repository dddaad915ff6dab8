"""Optimizers: gradient descent with momentum, and with the mistakes that people make."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from gt.options import Decay, Options
from gt.training.optimizers.base import Optimizer


class HeavyBall(Optimizer):
    """Gradient descent with momentum."""

    name = "heavy_ball"
    breaks: ClassVar[str] = ""
    says: ClassVar[str] = ""

    class Config(Options):
        momentum: Decay = 0.9

    def build(self) -> None:
        self.state["momentum"] = self.flat.zeros()

    def update(self, gradient: Tensor, rates: Tensor) -> Tensor:
        return rates * self.state["momentum"].mul_(self.options.momentum).add_(gradient)


class Crowded(HeavyBall):
    """It clips by a norm over all runs."""

    name = "crowded"
    breaks = "test_stacked_runs_take_the_steps_that_each_takes_alone"
    says = r"run 0 of two that are stacked has other weights after 4 steps than alone \(by \d"

    def update(self, gradient: Tensor, rates: Tensor) -> Tensor:
        return super().update(gradient / gradient.norm().clamp(min=1.0), rates)


class Amnesiac(HeavyBall):
    """It counts its steps where no checkpoint looks."""

    name = "amnesiac"
    breaks = "test_training_that_is_resumed_goes_on_as_if_it_had_not_stopped"
    says = r"resumed it goes elsewhere \(by \d.*\): what it remembers must all be tensors in self\.state"
    taken = 0

    def update(self, gradient: Tensor, rates: Tensor) -> Tensor:
        self.taken += 1
        return super().update(gradient, rates / self.taken)


class Replacing(HeavyBall):
    """It makes its state anew."""

    name = "replacing"
    breaks = "test_weights_and_state_are_changed_in_place"
    says = r"state\['momentum'\] is another tensor after a step: change it in place"

    def update(self, gradient: Tensor, rates: Tensor) -> Tensor:
        self.state["momentum"] = self.options.momentum * self.state["momentum"] + gradient
        return rates * self.state["momentum"]


class Partial(HeavyBall):
    """It forgets what is no matrix."""

    name = "partial"
    breaks = "test_every_parameter_moves"
    says = "norm.weight has not moved in 4 steps"

    def update(self, gradient: Tensor, rates: Tensor) -> Tensor:
        is_matrix = torch.tensor([group.matrix for group in self.flat.groups])[self.flat.group_of_block]
        return super().update(gradient, rates) * is_matrix.view(1, -1, 1)


class Spilling(HeavyBall):
    """It writes beside the parameters."""

    name = "spilling"
    breaks = "test_what_lies_between_parameters_stays_zero"
    says = "it writes between the parameters of its buffer"

    def update(self, gradient: Tensor, rates: Tensor) -> Tensor:
        return super().update(gradient, rates) + 1e-6 * gradient.abs().amax((1, 2), keepdim=True)


class Restless(HeavyBall):
    """It moves without a reason."""

    name = "restless"
    breaks = "test_a_zero_gradient_moves_nothing_but_by_weight_decay"
    says = r"a gradient of zeros moves embedding.weight, without weight decay, by \d"

    def update(self, gradient: Tensor, rates: Tensor) -> Tensor:
        return super().update(gradient, rates) + 1e-3 * rates * self.weights.sign()


class Undecaying(HeavyBall):
    """It knows no weight decay."""

    name = "undecaying"
    breaks = "test_a_zero_gradient_moves_nothing_but_by_weight_decay"
    says = "a weight decay of 0.5 does not make .* smaller: is self.decay used"

    def shrink(self, rates: Tensor) -> None:
        """Nothing."""


class Boasting(HeavyBall):
    """It says that it has moved twice as far."""

    name = "boasting"
    breaks = "test_a_step_says_what_it_subtracted"
    says = r"what step\(\) returns is not what it has subtracted from the weights"

    def step(self, gradient: Tensor, rates: Tensor) -> Tensor:
        return 2 * super().step(gradient, rates)


class Climbing(HeavyBall):
    """It goes up."""

    name = "climbing"
    breaks = "test_it_descends"
    says = r"20 steps into a bowl lead it from \d.* to \d.* away from the middle"

    def update(self, gradient: Tensor, rates: Tensor) -> Tensor:
        return -super().update(gradient, rates)


class Deaf(HeavyBall):
    """An option of it is read nowhere."""

    name = "deaf"
    breaks = "test_each_option_of_an_optimizer_changes_its_steps"
    says = "its option nesterov changes nothing in 4 steps"

    class Config(Options):
        momentum: Decay = 0.9
        nesterov: bool = False
