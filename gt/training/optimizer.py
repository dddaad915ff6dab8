"""Optimizers over flat buffers of parameters, and the learning rate over time."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from gt.spec import PartTraining, TrainingSpec
from gt.training.flat import Flat, Group

EVERYWHERE_ALIKE = PartTraining()


def decays(group: Group, spec: TrainingSpec) -> bool:
    """weight_decay_policy `all` decays everything, as the record did (flaw F-37); `matrices` the matrices alone."""
    return group.matrix or spec.weight_decay_policy == "all"


def weight_decay(group: Group, spec: TrainingSpec) -> float:
    """What a group is decayed by, with what `spec.parts` says of it."""
    own = spec.parts.get(group.part, EVERYWHERE_ALIKE)  # type: ignore[call-overload]
    return spec.weight_decay * own.weight_decay if decays(group, spec) else 0.0


class Optimizer:
    """AdamW (Loshchilov & Hutter 2019), Lion (Chen et al. 2023), or SGD with momentum.

    weights: a buffer of `flat`, updated in place. specs: one a run; all name the same optimizer, but the runs may differ in
    any of its hyperparameters. `state` holds what a checkpoint must keep. Nothing here reads a value back from the device.
    """

    def __init__(self, flat: Flat, weights: Tensor, specs: list[TrainingSpec]) -> None:
        self.flat, self.weights, self.name = flat, weights, specs[0].optimizer

        def a_run(values: Iterable[float]) -> Tensor:
            return torch.tensor(list(values), dtype=torch.float64, device=flat.device).view(-1, 1, 1)

        self.beta1, self.beta2 = a_run(s.beta1 for s in specs), a_run(s.beta2 for s in specs)
        self.epsilon = a_run(s.epsilon for s in specs).to(flat.dtype)
        decay = [[weight_decay(group, s) for group in flat.groups] for s in specs]
        self.decay = flat.by_block(torch.tensor(decay, dtype=flat.dtype, device=flat.device))
        self.state = {"momentum": flat.zeros(), "steps": torch.zeros((), dtype=torch.float64, device=flat.device)}
        if self.name == "adamw":
            self.state["variance"] = flat.zeros()

    def step(self, gradient: Tensor, rates: Tensor) -> Tensor:
        """Update the weights. gradient: a buffer; rates: (run, group). Returns what was subtracted, without decay."""
        dtype = self.flat.dtype
        rates = self.flat.by_block(rates.to(dtype))
        momentum = self.state["momentum"]
        beta1, beta2 = self.beta1.to(dtype), self.beta2.to(dtype)
        self.state["steps"] += 1
        if self.name == "sgd":  # weight decay is part of the gradient, as in torch.optim.SGD
            momentum.mul_(beta1).add_(gradient + self.decay * self.weights)
            update = rates * momentum
        elif self.name == "lion":
            update = rates * torch.lerp(gradient, momentum, beta1).sign()
            momentum.lerp_(gradient, 1 - beta2)
            self.weights.mul_(1 - rates * self.decay)
        else:
            variance = self.state["variance"]
            momentum.lerp_(gradient, 1 - beta1)
            variance.mul_(beta2).add_((1 - beta2) * gradient.square())
            # the corrections for the moments' start at zero, in double precision: 1 - beta^t is small at first
            first = (1 - self.beta1 ** self.state["steps"]).to(dtype)
            second = (1 - self.beta2 ** self.state["steps"]).sqrt().to(dtype)
            update = (rates / first) * momentum / (variance.sqrt() / second + self.epsilon)
            self.weights.mul_(1 - rates * self.decay)
        self.weights.sub_(update)
        return update


def learning_rate(spec: TrainingSpec, step: int, part: str | None = None) -> float:
    """Linear warm-up over warmup_ratio of the steps, then a cosine to min_learning_rate_ratio, times the factor of the
    curriculum's stage. step counts from 0.

    part: with what `spec.parts` says of it: its own factor, warm-up and frozen steps (during which the rate is 0).
    """
    own = spec.parts.get(part, EVERYWHERE_ALIKE) if part else EVERYWHERE_ALIKE  # type: ignore[call-overload]
    if step < own.frozen_steps:
        return 0.0
    peak = spec.learning_rate * own.learning_rate
    if (stage := spec.stage(step)[0]) < len(spec.curriculum):
        peak *= spec.curriculum[stage].learning_rate
    warmup = round(spec.warmup_ratio * own.warmup * spec.steps)
    if step < warmup:
        return peak * (own.warmup_floor + (1 - own.warmup_floor) * (step + 1) / warmup)
    progress = (step - warmup + 1) / max(1, spec.steps - warmup)
    floor = spec.min_learning_rate_ratio
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
