"""One model and the weights of several runs: `torch.func.vmap` over them, so that one launch serves all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

Weights = dict[str, Tensor]


class Applied(nn.Module):
    """A function of a module as a module, so that `functional_call` can lend it other weights: those of the module, whose names
    begin with `subject.`.
    """

    def __init__(self, subject: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.subject, self.function = subject, function

    def forward(self, *inputs: Any) -> Any:
        return self.function(self.subject, *inputs)


def alone(module: nn.Module) -> Callable[..., Any]:
    """module(*inputs) with the weights of a run, which come first."""

    def of_one(weights: Weights, *inputs: Tensor) -> Any:
        return functional_call(module, turned(weights), inputs)

    return of_one


def mapped(module: nn.Module, shared: bool = False) -> Callable[..., Any]:
    """The same for each run: weights, inputs and results have a leading dimension of runs; `shared` inputs have none."""

    def of_one(weights: Weights, *inputs: Tensor) -> Any:
        return functional_call(module, weights, inputs)

    def of_all(weights: Weights, *inputs: Tensor) -> Any:
        return torch.func.vmap(of_one, in_dims=(0, *(None if shared else 0 for _ in inputs)))(turned(weights), *inputs)

    return of_all


class ContiguousGradient(torch.autograd.Function):
    """x itself, whose gradient is contiguous: a batched matrix product gives that of its weights transposed, and a compiler
    turns it while it casts it, where a copy later would be a pass of its own.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous()


def turned(weights: Weights) -> Weights:
    """The same weights, whose gradients are contiguous."""
    return {name: ContiguousGradient.apply(w) for name, w in weights.items()}  # type: ignore[no-untyped-call]
