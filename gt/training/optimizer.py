"""Optimizers over one flat buffer of parameters, and the learning rate over time.

All parameters of a cohort stand in one tensor (run, size): a row a run, sorted so that each group of parameters is a range
of columns. An update is then a dozen elementwise operations however many parameters and runs there are, and runs may
differ in any of their hyperparameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from gt.spec import PartTraining, TrainingSpec

EVERYWHERE_ALIKE = PartTraining()


@dataclass(frozen=True)
class Group:
    """Parameters of one part of the model that all are, or are not, subject to weight decay as matrices."""

    part: str
    matrix: bool
    names: tuple[str, ...]
    columns: slice  # of the flat buffer


def parameter_groups(model: nn.Module) -> list[Group]:
    """The groups in the order of the flat buffer, which is that of their parts; AssertionError unless each parameter is in one.

    Matrices are the weights of linear, convolution and embedding layers. Norms, gains, biases, decays, A_log, D, dt_bias
    and what a module lists in `undecayed` are not.
    """
    matrices = _matrices(model)
    members: dict[tuple[str, bool], list[str]] = {}
    sizes: dict[tuple[str, bool], int] = {}
    for name, parameter in model.named_parameters():
        key = (part(name), id(parameter) in matrices)
        members.setdefault(key, []).append(name)
        sizes[key] = sizes.get(key, 0) + parameter.numel()
    keys = sorted(members)
    ends = list(accumulate(sizes[key] for key in keys))
    groups = [
        Group(key[0], key[1], tuple(members[key]), slice(end - sizes[key], end)) for key, end in zip(keys, ends, strict=True)
    ]
    names = sorted(name for group in groups for name in group.names)
    assert names == sorted(name for name, _ in model.named_parameters()), "a parameter is not in exactly one group"
    return groups


def part(name: str) -> str:
    """The part of the model that a parameter belongs to, from its qualified name.

    `mixers.<letter>`, `fusion`, `feed_forward`, `embedding` (with positions and head) or `norm`.
    """
    pieces = name.split(".")
    if pieces[0] != "body":
        return "norm" if pieces[0].endswith("norm") else "embedding"
    if "blocks" not in pieces:
        return "fusion"  # of two towers
    own = pieces[pieces.index("blocks") + 2 :]
    return f"mixers.{own[1]}" if own[0] == "mixers" else "norm" if "norm" in own[0] else own[0]


def _matrices(model: nn.Module) -> set[int]:
    weights = {id(m.weight) for m in model.modules() if isinstance(m, (nn.Linear, nn.Embedding, nn.Conv1d))}
    exempt = {
        id(parameter)
        for module in model.modules()
        for prefix in getattr(module, "undecayed", ())
        for name, parameter in module.named_parameters()
        if name.startswith(prefix)
    }
    return weights - exempt


def decays(group: Group, spec: TrainingSpec) -> bool:
    """weight_decay_policy `all` decays everything, as the record did (flaw F-37); `matrices` the matrices alone."""
    return group.matrix or spec.weight_decay_policy == "all"


class Optimizer:
    """AdamW (Loshchilov & Hutter 2019), Lion (Chen et al. 2023), or SGD with momentum, on a flat buffer.

    weights: (run, size), updated in place. groups: its ranges. specs: one a run; all name the same optimizer.
    `state` holds what a checkpoint must keep. Nothing here reads a value back from the device.
    """

    def __init__(self, weights: Tensor, groups: list[Group], specs: list[TrainingSpec]) -> None:
        self.weights, self.name = weights, specs[0].optimizer
        device = weights.device
        self.sizes = torch.tensor([group.columns.stop - group.columns.start for group in groups], device=device)

        def column(values: Iterable[float]) -> Tensor:
            return torch.tensor(list(values), dtype=torch.float64, device=device).unsqueeze(1)

        self.beta1, self.beta2 = column(s.beta1 for s in specs), column(s.beta2 for s in specs)
        self.epsilon = column(s.epsilon for s in specs).to(weights.dtype)
        decay = [[s.weight_decay if decays(group, s) else 0.0 for group in groups] for s in specs]
        self.decay = self.spread(torch.tensor(decay, dtype=weights.dtype, device=device))
        self.state = {"momentum": torch.zeros_like(weights), "steps": torch.zeros((), dtype=torch.float64, device=device)}
        if self.name == "adamw":
            self.state["variance"] = torch.zeros_like(weights)

    def spread(self, values: Tensor) -> Tensor:
        """A value a run and group, (run, group), as one a parameter, (run, size)."""
        return values.repeat_interleave(self.sizes, dim=1, output_size=self.weights.shape[1])

    def step(self, gradient: Tensor, rates: Tensor) -> Tensor:
        """Update the weights. gradient: (run, size); rates: (run, group). Returns what was subtracted, without decay."""
        dtype = self.weights.dtype
        rates = self.spread(rates.to(dtype))
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
    """Linear warm-up over warmup_ratio of the steps, then a cosine to min_learning_rate_ratio. step counts from 0.

    part: with what `spec.parts` says of it: its own factor, warm-up and frozen steps (during which the rate is 0).
    """
    own = spec.parts.get(part, EVERYWHERE_ALIKE) if part else EVERYWHERE_ALIKE  # type: ignore[call-overload]
    if step < own.frozen_steps:
        return 0.0
    peak = spec.learning_rate * own.learning_rate
    warmup = round(spec.warmup_ratio * own.warmup * spec.steps)
    if step < warmup:
        return peak * (own.warmup_floor + (1 - own.warmup_floor) * (step + 1) / warmup)
    progress = (step - warmup + 1) / max(1, spec.steps - warmup)
    floor = spec.min_learning_rate_ratio
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
