"""Optimizers over named groups of parameters, and the learning rate over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gt.spec import PartTraining, TrainingSpec

EVERYWHERE_ALIKE = PartTraining()


def parameter_groups(model: nn.Module, spec: TrainingSpec) -> list[dict[str, Any]]:
    """Groups named `<part>/decay` and `<part>/no_decay`; each knows its `part`.

    Weight decay is for matrices: the weights of linear, convolution and embedding layers. Norms, gains, biases, decays,
    A_log, D, dt_bias and what a module lists in `undecayed` go without. weight_decay_policy `all` decays everything, as the
    record did (flaw F-37). AssertionError unless every parameter is in exactly one group.
    """
    matrices = _matrices(model)
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        decay = spec.weight_decay_policy == "all" or id(parameter) in matrices
        key = f"{part(name)}/{'decay' if decay else 'no_decay'}"
        weight_decay = spec.weight_decay if decay else 0.0
        group = groups.setdefault(key, {"name": key, "part": part(name), "params": [], "weight_decay": weight_decay})
        group["params"].append(parameter)
    grouped = [id(parameter) for group in groups.values() for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters()), "a parameter is not in exactly one group"
    return list(groups.values())


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


def build_optimizer(model: nn.Module, spec: TrainingSpec) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), Lion, or SGD with momentum."""
    groups = parameter_groups(model, spec)
    match spec.optimizer:
        case "adamw":
            betas = (spec.beta1, spec.beta2)
            return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=betas, eps=spec.epsilon, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=spec.learning_rate, momentum=spec.beta1, fused=True)
        case "lion":
            return Lion(groups, lr=spec.learning_rate, betas=(spec.beta1, spec.beta2))


class Lion(torch.optim.Optimizer):
    """Sign of an interpolated momentum (Chen et al. 2023, arXiv:2302.06675, program 1), with decoupled weight decay.

    u = sign(b1 m + (1 - b1) g);  w = w - lr (u + decay w);  m = b2 m + (1 - b2) g
    """

    def __init__(self, params: Iterable[Any], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                state = self.state[parameter]
                momentum: Tensor = state.setdefault("exp_avg", torch.zeros_like(parameter))
                update = torch.lerp(parameter.grad, momentum, beta1).sign_()
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])
                momentum.lerp_(parameter.grad, 1 - beta2)


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
