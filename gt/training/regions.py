"""A language model's loss in regions that a compiler takes one at a time: the embedding, each layer, the head.

Compiling fuses what stands between matrix products and recurrences, which is most of a small model's kernels. One layer is
compiled, not all: layers that differ in nothing but their weights share the code, so a deep model compiles as quickly as a
shallow one. The same regions run uncompiled give the same numbers to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gt.models.lm import LanguageModel, Stack
from gt.models.mixers.grounded_mamba import StableSSM
from gt.models.mixers.state import StateNorm
from gt.training.losses import autocast, cross_entropies

Weights = dict[str, Tensor]


def divisible(model: LanguageModel) -> bool:
    """Whether a model is a stack of layers that compile: no towers, no recurrence that goes position by position."""
    sequential = (StateNorm, StableSSM, nn.RNNBase)
    return isinstance(model.body, Stack) and not any(isinstance(module, sequential) for module in model.modules())


class Regions:
    """The mean cross-entropy of a batch, for the runs of a cohort. `weights` are theirs, (run, *shape), or a single run's."""

    def __init__(self, model: LanguageModel, weights: Weights, precision: str, compiled: bool) -> None:
        self.precision = precision
        if compiled:
            _allow_many_regions()
        stacked = next(iter(weights.values())).ndim > next(model.parameters()).ndim

        def region(module: nn.Module) -> Callable[..., Any]:
            function = mapped(module) if stacked else lambda own, *inputs: functional_call(module, own, inputs)
            return torch.compile(function, dynamic=False) if compiled else function

        def weights_of(module: nn.Module, prefix: str) -> Weights:
            return {f"subject.{name}": weights[prefix + name] for name, _ in module.named_parameters()}

        self.embed = region(Applied(model, lambda lm, tokens: lm.embed(tokens)))
        self.head = region(Applied(model, lambda lm, x, targets: cross_entropies(lm.read_out(x), targets).mean()))
        self.outer = {name: w for name, w in weights_of(model, "").items() if not name.startswith("subject.body.")}
        by_structure: dict[str, Callable[..., Any]] = {}
        self.layers: list[tuple[Callable[..., Any], Weights]] = []
        for i, block in enumerate(model.body.blocks):
            key = structure(block)
            if key not in by_structure:
                by_structure[key] = region(Applied(block, lambda layer, x: layer(x)[0]))
            self.layers.append((by_structure[key], weights_of(block, f"body.blocks.{i}.")))

    def __call__(self, batch: Tensor) -> Tensor:
        """batch: ([run,] batch, time + 1) tokens -> nats/token, ([run])."""
        with autocast(batch.device, self.precision):
            x = self.embed(self.outer, batch[..., :-1])
            for layer, weights in self.layers:
                x = layer(weights, x)
            loss: Tensor = self.head(self.outer, x, batch[..., 1:])
        return loss


class Applied(nn.Module):
    """A function of a model as a module, so that `functional_call` can lend the model other weights meanwhile."""

    def __init__(self, subject: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.subject, self.function = subject, function

    def forward(self, *inputs: Any) -> Any:
        return self.function(self.subject, *inputs)


def mapped(module: nn.Module, shared: bool = False) -> Callable[..., Any]:
    """module(*inputs) for each run: weights, inputs and results have a leading dimension of runs; `shared` inputs have none."""

    def of_one(weights: Weights, *inputs: Tensor) -> Any:
        return functional_call(module, weights, inputs)

    def of_all(weights: Weights, *inputs: Tensor) -> Any:
        return torch.func.vmap(of_one, in_dims=(0, *(None if shared else 0 for _ in inputs)))(weights, *inputs)

    return of_all


def structure(block: nn.Module) -> str:
    """All that decides what a layer computes, but its weights: two layers of one structure can share compiled code."""
    plain = (bool, int, float, str, tuple)
    settings = [
        (
            name,
            type(module).__qualname__,
            sorted((k, v) for k, v in vars(module).items() if isinstance(v, plain) and k != "layer"),
        )
        for name, module in block.named_modules()
    ]
    return repr((settings, [(name, tuple(p.shape)) for name, p in block.named_parameters()]))


def _allow_many_regions() -> None:
    """All regions of all cohorts are one piece of code to the compiler, which by default gives up on it the eighth time.

    The rest would then run uncompiled, and a run's bits depend on how many cohorts were built before it: raise instead.
    """
    import torch._dynamo.config as config

    config.recompile_limit = config.accumulated_recompile_limit = 4096
    config.fail_on_recompile_limit_hit = True
