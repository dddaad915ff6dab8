"""How a layer is cut: regions, each a function of some modules and of named values, and what it hands on.

`Block.regions` is the one place that says what depends on what. `Block.forward` runs the list as it is, with states; the
engine (`gt.training.regions`) runs the same list compiled, a region at a time, with the weights of several runs, and shares
what it has compiled between regions of one `key`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

# The modules of a region by the names that its function knows them by; one that a layer does not have is not in it.
Parts = Mapping[str, Any]
# function(parts, *inputs, state) -> (the outputs, the state). One that has no state is given None and returns it.
Function = Callable[..., tuple[tuple[Tensor | None, ...], Any]]


@dataclass(frozen=True)
class Region:
    """A stretch of a layer's computation.

    outputs, inputs: names of the values that it makes and reads; of outputs the last may be None. parts: the modules whose
    weights it reads. function: what it does with them; a plain function, or another that is equal where it does the same.
    state: what its state is called in that of the layer; None where it has none. beside: it does not depend on the regions
    that come next, up to one that is not `beside` and reads it, and can run at the same time. recompute: its activations are
    computed again in the backward pass.
    """

    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    parts: Parts
    function: Function
    state: str | None = None
    beside: bool = False
    recompute: bool = False

    @property
    def key(self) -> Hashable:
        """All that decides what it computes, but its weights and inputs: regions of one key can share their code."""
        return self.function, len(self.inputs), tuple((name, computation(part)) for name, part in self.parts.items())


def computation(module: nn.Module) -> Hashable:
    """What a module computes from its weights and inputs: its class, and what it was made with.

    A module of ours says so itself, as every component does. TypeError for another that is none of torch's norms and
    tables.
    """
    match module:
        case nn.RMSNorm() | nn.LayerNorm():
            return type(module), module.normalized_shape, module.eps
        case nn.Linear() | nn.Embedding():
            return type(module).__name__
        case _ if hasattr(module, "computation"):
            own: Hashable = module.computation
            return own
    raise TypeError(f"{type(module).__name__} has no `computation`, so nobody can tell which compiled code is its own.")


def present(**modules: nn.Module | None) -> dict[str, nn.Module]:
    """Those that are there."""
    return {name: module for name, module in modules.items() if module is not None}


def run(regions: Iterable[Any], values: dict[str, Any], call: Callable[..., Iterable[Tensor | None]]) -> dict[str, Any]:
    """Run regions, or what stands for them, in their order: call(region, *inputs) gives the outputs. Returns all values."""
    for region in regions:
        given = call(region, *(values[name] for name in region.inputs))
        values |= dict(zip(region.outputs, given, strict=True))
    return values
