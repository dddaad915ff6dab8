"""A language model's loss in regions that a compiler takes one at a time: each norm, mixer and fusion, and what follows them.

Compiling fuses what stands between matrix products and recurrences, which is most of a small model's kernels. A region is
compiled once for all layers, and for all models of a process, that have it with the same shapes: a deep model compiles as
quickly as a shallow one, and twelve fusions of the same two mixers compile the mixers once. The same regions run uncompiled
give the same numbers to rounding.

Two mixers do not depend on each other, and neither of a small model fills a GPU: the first goes to a stream of its own.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.func import functional_call

from gt.models.block import Block
from gt.models.fusions.base import Fused, Fusion
from gt.models.lm import LanguageModel, Stack
from gt.ops import backend
from gt.training.engine import Lane
from gt.training.losses import autocast, cross_entropies, inputs

Weights = dict[str, Tensor]
# The parts of a layer that are regions each; the rest of it, its sums and feed-forward layer, is one.
REGIONS = ("mixer_norm", "mixers", "branch_norms", "fusion")
# Kernels that do not depend on each other are launched as one, as the casts of a layer's weights: an eighth of a small model's
# step. The compiler chooses a kernel's configuration by timing some, which differs from process to process; with
# `deterministic` only that of elementwise kernels, where it decides no bit, and not that of sums, whose order it is.
OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {"combo_kernels": True, "deterministic": True}
# By what they compute. Kept for as long as the process lives: compiling takes seconds, a function little memory.
_compiled: dict[str, Callable[..., Any]] = {}


def divisible(model: LanguageModel) -> bool:
    """Whether a model is a stack of layers that compile: no towers, no recurrence that goes position by position."""
    return isinstance(model.body, Stack) and not any(getattr(module, "sequential", False) for module in model.modules())


class Regions:
    """The cross-entropy of a batch, for the runs of a cohort. `weights` are theirs, (run, *shape), or a single run's."""

    def __init__(self, model: LanguageModel, weights: Weights, precision: str, compiled: bool) -> None:
        self.precision, self.compiled = precision, compiled
        self.weights = weights
        self.stacked = next(iter(weights.values())).ndim > next(model.parameters()).ndim
        self.embed = self._of_all(model, lambda lm, tokens: lm.embed(tokens))
        self.head = self._compiled(self._of_all(model, _loss), _about_outer(model))
        self.outer = {f"subject.{name}": w for name, w in weights.items() if not name.startswith("body.")}
        device = next(iter(weights.values())).device
        self.lane = Lane(device) if device.type == "cuda" else None
        self.layers = [self._in_regions(block, f"body.blocks.{i}.") for i, block in enumerate(model.body.blocks)]

    def __call__(self, batch: Tensor, n_targets: Tensor) -> Tensor:
        """batch: ([run,] batch, time + 1) tokens -> nats over n_targets ([run]), ([run])."""
        with autocast(batch.device, self.precision):
            x = self.embed(self.outer, inputs(batch))
            for layer in self.layers:
                x, _ = layer(x)
            loss: Tensor = self.head(self.outer, x, batch[..., 1:], n_targets)
        return loss

    def gates(self) -> list[Tensor | None]:
        """Of each fusion the gate in the last call, ([run,] batch, time, channel) or ([run,] 1); None where it has none."""
        return [layer.fusion.gate for layer in self.layers if isinstance(layer.fusion, Region)]

    def _in_regions(self, block: Block, prefix: str) -> Block:
        """A layer whose parts are regions with weights of their own. It keeps no states.

        Of two mixers the first, with its norm, goes to the lane, and the fusion waits for it.
        """
        layer, rest = copy.copy(block), copy.copy(block)
        layer._modules, rest._modules = dict(block._modules), {}
        for name, part in block.named_children():
            if name not in REGIONS or (name == "mixer_norm" and block.post):  # a norm that comes after the mixers
                rest._modules[name] = part
            elif isinstance(part, nn.ModuleDict):
                parts = {letter: self._region(child, f"{prefix}{name}.{letter}.") for letter, child in part.items()}
                layer._modules[name] = nn.ModuleDict(parts)
            else:
                layer._modules[name] = self._region(part, f"{prefix}{name}.")
        if self.lane is not None and isinstance(layer.fusion, Region):
            for branches in filter(None, (layer.mixers, layer.branch_norms)):
                next(iter(branches.values())).within = self.lane.beside
            layer.fusion.within = self.lane.joined
        vars(layer)["finish"] = self._region(rest, prefix, _finished)
        return layer

    def _region(self, part: nn.Module, prefix: str, function: Callable[..., Any] | None = None) -> Region:
        weights = {f"subject.{name}": self.weights[prefix + name] for name, _ in part.named_parameters()}
        function = function or _output
        return Region(part, self._compiled(self._of_all(part, function), f"{function.__name__} {structure(part)}"), weights)

    def _of_all(self, subject: nn.Module, function: Callable[..., Any]) -> Callable[..., Any]:
        """function(subject, ...) of weights and inputs, for all runs."""
        module = Applied(subject, function)
        return mapped(module) if self.stacked else lambda own, *inputs: functional_call(module, turned(own), inputs)

    def _compiled(self, function: Callable[..., Any], about: str) -> Callable[..., Any]:
        """The function, if so compiled: the one of an equal subject, if there was one."""
        if not self.compiled:
            return function
        key = f"{self.stacked} {self.precision} {backend.forced()} {about}"
        if key not in _compiled:
            _allow_many_regions()
            _compiled[key] = compile_static(function)
        return _compiled[key]


class Region(nn.Module):
    """Stands in for a part of a layer: a function of the part's weights, and no states.

    gate: of a fusion, the last call's. within: the context in which it reads its inputs and is run.
    """

    def __init__(self, part: nn.Module, function: Callable[..., Any], weights: Weights) -> None:
        super().__init__()
        self.function, self.weights = function, weights
        self.is_fusion, self.is_norm = isinstance(part, Fusion), isinstance(part, (nn.RMSNorm, nn.LayerNorm))
        self.gate: Tensor | None = None
        self.within: Callable[..., AbstractContextManager[object]] = lambda *inputs: nullcontext()

    def forward(self, *given: Tensor | None) -> Any:
        inputs = [x for x in given if x is not None]
        with self.within(*inputs):
            y = self.function(self.weights, *inputs)
        if not self.is_fusion:
            return y if self.is_norm else (y, None)
        y, *gate = y
        self.gate = gate[0].detach() if gate else None
        return Fused(y, None)


class Applied(nn.Module):
    """A function of a model as a module, so that `functional_call` can lend the model other weights meanwhile."""

    def __init__(self, subject: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.subject, self.function = subject, function

    def forward(self, *inputs: Any) -> Any:
        return self.function(self.subject, *inputs)


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


def mapped(module: nn.Module, shared: bool = False) -> Callable[..., Any]:
    """module(*inputs) for each run: weights, inputs and results have a leading dimension of runs; `shared` inputs have none."""

    def of_one(weights: Weights, *inputs: Tensor) -> Any:
        return functional_call(module, weights, inputs)

    def of_all(weights: Weights, *inputs: Tensor) -> Any:
        return torch.func.vmap(of_one, in_dims=(0, *(None if shared else 0 for _ in inputs)))(turned(weights), *inputs)

    return of_all


def compile_static(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function for shapes that do not change, with the same bits in every process."""
    return torch.compile(function, dynamic=False, options=OPTIONS)


def structure(part: nn.Module) -> str:
    """All that decides what a part computes, but its weights and where it stands: parts of one structure share code.

    TypeError for a part with hooks, or with an attribute of which it cannot be told whether another's is the same.
    """
    modules = part.named_modules(remove_duplicate=False)
    return repr(([(name, _own(module)) for name, module in modules], [(n, tuple(p.shape)) for n, p in part.named_parameters()]))


# What torch keeps in every module, but for `training`.
_TORCHS = frozenset(vars(nn.Module())) - {"training"}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _own(module: nn.Module) -> object:
    """A module's class, attributes, a component's frozen options among them, and buffers, without those of its children. The
    number of its layer only sets initial values, where its forward pass does not read it.
    """
    if any(getattr(module, hooks) for hooks in _HOOKS):
        raise TypeError(f"{type(module).__name__} has hooks, which compiled code of another would not call.")
    kind: Any = type(module)
    left_out = _TORCHS if _reads_layer(kind) else _TORCHS | {"layer"}
    attributes = {name: value for name, value in vars(module).items() if name not in left_out} | module._buffers
    return _identity(type(module)), [(n, _told(v, f"{type(module).__name__}.{n}")) for n, v in sorted(attributes.items())]


@functools.cache
def _reads_layer(kind: type) -> bool:
    """Whether the forward pass of a class mentions `layer`, by itself or in what it mentions of its class."""
    known, new = set[str](), {"forward"}
    while new:
        known |= new
        methods = [vars(own).get(name) for own in kind.__mro__ for name in new]
        new = {name for method in methods for name in _names(getattr(method, "fget", method))} - known
    return "layer" in known


def _names(thing: Any) -> Iterator[str]:
    """All names in the code of a function, and in that of functions in it; none of another thing."""
    code = thing if isinstance(thing, types.CodeType) else getattr(inspect.unwrap(thing), "__code__", None)
    if code is not None:
        yield from code.co_names
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                yield from _names(constant)


def _told(value: object, name: str) -> object:
    """What an attribute is, such that no other is told alike. TypeError, which gives its name, where that cannot be said."""
    kind = _identity(type(value))
    match value:
        case Enum():
            return kind, value.name
        case None | bool() | int() | float() | complex() | str() | bytes() | torch.dtype() | torch.device():
            return kind, repr(value)
        case tuple() | list():
            return kind, [_told(item, name) for item in value]
        case set() | frozenset():
            return kind, sorted(repr(_told(item, name)) for item in value)
        case dict():
            return kind, [(_told(key, name), _told(item, name)) for key, item in value.items()]
        case torch.Tensor():
            content = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            return kind, tuple(value.shape), str(value.dtype), hashlib.sha256(content).hexdigest()
        case nn.Module():
            return kind, structure(value)
        case BaseModel():
            return kind, _told(dict(value), name)
        case type() | types.FunctionType() | types.BuiltinFunctionType() | types.MethodType() | functools.partial():
            return _identity(value)
    if is_dataclass(value):
        return kind, [(f.name, _told(getattr(value, f.name), name)) for f in fields(value)]
    raise TypeError(
        f"{name} is a {type(value).__name__}, of which compiled code cannot be told apart: keep what it is made of."
    )


def _identity(thing: Any) -> tuple[str, int]:
    """Of a class or function, which is the same as no other; the compiled code that is looked up by it keeps it alive."""
    return getattr(thing, "__qualname__", type(thing).__qualname__), id(thing)


def _about_outer(model: LanguageModel) -> str:
    """The same of what stands around the layers."""
    parts = {name: structure(part) for name, part in model.named_children() if name != "body"}
    return f"outer {parts} {model.spec.logit_softcap}"


def _output(part: nn.Module, *inputs: Tensor) -> Any:
    """What a part gives, without its state; of a fusion a tuple of what it has, y and the gate."""
    output = part(*inputs)
    if isinstance(output, Fused):
        return tuple(x for x in output[:2] if x is not None)
    return output[0] if isinstance(output, tuple) else output


def _finished(rest: Any, x: Tensor, mixed: Tensor, n: Tensor) -> Tensor:
    y: Tensor = rest.finish(x, mixed, n, None)[0]
    return y


def _loss(model: LanguageModel, x: Tensor, targets: Tensor, n_targets: Tensor) -> Tensor:
    return cross_entropies(model.read_out(x), targets).sum() / n_targets


def _allow_many_regions() -> None:
    """All regions of all cohorts are one piece of code to the compiler, which by default gives up on it the eighth time.

    The rest would then run uncompiled, and a run's bits depend on how many cohorts were built before it: raise instead.
    """
    import torch._dynamo.config as config

    config.recompile_limit = config.accumulated_recompile_limit = 4096
    config.fail_on_recompile_limit_hit = True
