"""Where a model is looked into: its branches and the stacks that they are in."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from gt.models.lm import LanguageModel, Stack, Towers


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
