"""Initial values, each drawn from the stream of its own parameter.

A module owns the initial values of its parameters: `reset_parameters(streams)` sets every one of them, and calls its
submodules with their own scope.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gt.seeds import Streams


@torch.no_grad()
def normal_(parameter: Tensor, std: float, streams: Streams, name: str) -> None:
    """N(0, std^2)."""
    values = torch.empty(parameter.shape, dtype=torch.float32)
    parameter.copy_(values.normal_(0.0, std, generator=streams.generator(name)))


@torch.no_grad()
def uniform_(parameter: Tensor, bound: float, streams: Streams, name: str) -> None:
    """U(-bound, bound)."""
    values = torch.empty(parameter.shape, dtype=torch.float32)
    parameter.copy_(values.uniform_(-bound, bound, generator=streams.generator(name)))


@torch.no_grad()
def orthogonal_(parameter: Tensor, gain: float, streams: Streams, name: str) -> None:
    """A (semi-)orthogonal matrix times gain (Saxe et al. 2014), as `nn.init.orthogonal_`, but the same on every machine.

    How a decomposition is rounded depends on the processor and on how many threads share it: hence one, in float64.
    """
    values = torch.empty(parameter.shape, dtype=torch.float32).normal_(generator=streams.generator(name)).double()
    wide = values.shape[0] < values.shape[1]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        q, r = torch.linalg.qr(values.T if wide else values)
    finally:
        torch.set_num_threads(threads)
    q = gain * q * r.diagonal().sign()
    parameter.copy_(q.T if wide else q)


@torch.no_grad()
def linear_(layer: nn.Linear, std: float, streams: Streams, name: str) -> None:
    """Weight N(0, std^2), bias zero."""
    normal_(layer.weight, std, streams, f"{name}.weight")
    if layer.bias is not None:
        layer.bias.zero_()


@torch.no_grad()
def norm_(layer: nn.Module) -> None:
    """A norm's weight one, its bias zero."""
    for name, parameter in layer.named_parameters(recurse=False):
        parameter.fill_(1.0 if name == "weight" else 0.0)


@torch.no_grad()
def constant_(parameter: Tensor, value: float) -> None:
    """All elements the same."""
    parameter.fill_(value)


@torch.no_grad()
def blanket_(module: nn.Module, streams: Streams) -> None:
    """N(0, .02) in every linear and embedding layer, biases zero but for a gate's."""
    for name, layer in module.named_modules():
        if isinstance(layer, (nn.Linear, nn.Embedding)):
            normal_(layer.weight, 0.02, streams, f"blanket.{name}.weight")
            if isinstance(layer, nn.Linear) and layer.bias is not None and layer.bias.numel() > 1:
                layer.bias.zero_()


def mark_unset(module: nn.Module) -> None:
    """Fill every parameter with NaN, so that one which no `reset_parameters` sets is found."""
    for parameter in module.parameters():
        constant_(parameter, float("nan"))


def assert_all_set(module: nn.Module) -> None:
    """AssertionError that names a parameter which was never initialised."""
    for name, parameter in module.named_parameters():
        assert not torch.isnan(parameter).any(), f"parameter {name} was never initialised"
