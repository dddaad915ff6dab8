"""Where a model is looked into: the places of its branches; and how a measure of them is written down."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from gt.models.lm import LanguageModel, Stack, Towers

Json = dict[str, Any]
Measures = dict[str, Json]
DIGITS = 6


class Site(NamedTuple):
    """A branch in a layer. The module returns (y (batch, time, d_model), state)."""

    branch: str
    layer: int
    module: nn.Module


def stacks(model: LanguageModel) -> list[Stack]:
    """The model's stacks of blocks: one, or one a tower."""
    return list(model.body.towers.values()) if isinstance(model.body, Towers) else [model.body]


def sites(model: LanguageModel) -> list[Site]:
    """Every mixer, as its block calls it, wrap included; by stack and layer."""
    return [
        Site(letter, layer, mixer)
        for stack in stacks(model)
        for layer, block in enumerate(stack.blocks)
        for letter, mixer in block.mixers.items()
    ]


def whole(model: LanguageModel, branch: str) -> list[nn.Module]:
    """What a branch is over all layers: its mixers, or its tower."""
    if isinstance(model.body, Towers):
        return [model.body.towers[branch]]
    return [site.module for site in sites(model) if site.branch == branch]


def branches(model: LanguageModel) -> list[str]:
    """The letters of the mixers, in the order in which a fusion gets them, or of their first layers."""
    return list(dict.fromkeys(letter for layer in model.spec.layer_list() for letter in layer))


def fetched(scalars: Any) -> Any:
    """A nested structure of tensors of one number, as numbers: from their device in one copy, for which it waits once."""
    leaves, structure = tree_flatten(scalars)
    return tree_unflatten(torch.stack([leaf.double() for leaf in leaves]).tolist() if leaves else [], structure)


def one(value: float | None) -> Json:
    """A measure of a model."""
    return {"value": _number(value), "layers": {}}


def by_layer(values: dict[int, float], value: float | None = None) -> Json:
    """A measure with a value a layer; that of the model is their mean unless it is given."""
    mean = sum(values.values()) / len(values) if values else None
    return {"value": _number(mean if value is None else value), "layers": {str(i): _number(v) for i, v in values.items()}}


def ratio(a: float | None, b: float | None) -> float | None:
    """a / b, and nothing where that is no number."""
    return a / b if a is not None and b else None


def _number(value: float | None) -> float | None:
    """Six digits of it; nothing where it is not finite, which JSON cannot say."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{DIGITS}g}")
