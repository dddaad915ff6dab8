"""AdamW over named groups of parameters, and the learning rate over time."""

from __future__ import annotations

import math

import torch
from torch import nn

from gt.spec import TrainingSpec


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Groups named `<part>/decay` and `<part>/no_decay`; part is a branch (`mixers.r`), `fusion`, `feed_forward`, `norm`
    or `embedding`.

    Weight decay is for matrices: the weights of linear, convolution and embedding layers. Norms, gains, biases, decays,
    A_log, D, dt_bias and what a module lists in `undecayed` go without. AssertionError unless every parameter that
    learns is in exactly one group.
    """
    decayed = _decayed(model)
    groups: dict[str, dict[str, object]] = {}
    for name, parameter in model.named_parameters():
        decay = id(parameter) in decayed
        key = f"{part(name)}/{'decay' if decay else 'no_decay'}"
        group = groups.setdefault(key, {"name": key, "params": [], "weight_decay": weight_decay if decay else 0.0})
        group["params"].append(parameter)  # type: ignore[attr-defined]
    grouped = [id(p) for g in groups.values() for p in g["params"]]  # type: ignore[attr-defined]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters()), "a parameter is not in exactly one group"
    return list(groups.values())


def part(name: str) -> str:
    """The part of the model that a parameter belongs to, from its qualified name."""
    pieces = name.split(".")
    if pieces[0] != "blocks":
        return "norm" if pieces[0] == "norm" else "embedding"
    return f"mixers.{pieces[3]}" if pieces[2] == "mixers" else "norm" if "norm" in pieces[2] else pieces[2]


def _decayed(model: nn.Module) -> set[int]:
    matrices = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, (nn.Linear, nn.Embedding, nn.Conv1d)) and module.weight.ndim >= 2
    }
    exempt = {
        id(parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters()
        if name.startswith(getattr(module, "undecayed", ()) or "\0")
    }
    return matrices - exempt


def adamw(model: nn.Module, spec: TrainingSpec) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019), one fused kernel a group."""
    return torch.optim.AdamW(
        parameter_groups(model, spec.weight_decay),
        lr=spec.learning_rate,
        betas=(spec.beta1, spec.beta2),
        eps=spec.epsilon,
        fused=True,
    )


def learning_rate(spec: TrainingSpec, step: int) -> float:
    """Linear warm-up over warmup_ratio of the steps, then a cosine to min_learning_rate_ratio. step counts from 0."""
    warmup = round(spec.warmup_ratio * spec.steps)
    if step < warmup:
        return spec.learning_rate * (step + 1) / warmup
    progress = (step - warmup + 1) / max(1, spec.steps - warmup)
    floor = spec.min_learning_rate_ratio
    return spec.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
