"""What the conformance tests are about: each component of a project, with each value of its options, at a tiny size."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from gt.catalogue import KINDS, MODEL_KINDS, Component, components
from gt.errors import ConfigError
from gt.explain import validated
from gt.models.fusions.base import Fused
from gt.models.init import mark_unset
from gt.seeds import Streams

# The widths that are tried: the first that a component can be built at. Whole numbers above SMALL become SMALL, if it can then.
WIDTHS = (16, 32, 64, 128)
SMALL = 8
# What an option's type allows beside its default: the first that the component takes is tested.
OTHERS: dict[type, tuple[Any, ...]] = {bool: (False, True), int: (1, 2, 4, 16), float: (0.25, 0.75, 2.0, 4.0)}
# By the name of a test's argument the kinds that it is about. A `part` is one setting of its options, a `component` has all.
ASKED: dict[str, tuple[str, ...]] = {
    "component": tuple(KINDS),
    "model_component": MODEL_KINDS,
    "part": MODEL_KINDS,
    "mixer": ("mixer",),
    "feed_forward": ("feed_forward",),
    "optimizer": ("optimizer",),
    "corpus": ("corpus",),
    "measure": ("evaluation", "probe"),
}
Weights = dict[str, Tensor]
WHOLE = ("component", "model_component", "corpus", "measure")


@dataclass(frozen=True)
class Subject:
    """A component with some of its options, at a tiny size. Its text is how messages name it."""

    component: Component
    d_model: int
    sizes: dict[str, Any]
    changed: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.component.kind, self.component.name, *(f"{k}={v}" for k, v in self.changed.items())])

    @property
    def said(self) -> str:
        """The same in words: mixer rwkv6 (init fla)."""
        options = ", ".join(f"{name} {value}" for name, value in self.changed.items())
        return f"{words(self.component)} ({options})" if options else words(self.component)

    def made(self, layer: int = 1, n_layer: int = 3) -> Any:
        """As its class makes it: float32, parameters not set."""
        return make(self.component, self.d_model, {**self.sizes, **self.changed}, layer, n_layer)

    def reset(self, seed: int = 0, layer: int = 1, n_layer: int = 3, scope: str = "") -> Any:
        """With its initial values, NaN where they are not set."""
        module = self.made(layer, n_layer)
        mark_unset(module)
        module.reset_parameters(Streams(seed, scope))
        return module

    def started(self, seed: int = 0, layer: int = 1) -> Any:
        """With its initial values, in float64."""
        module = self.reset(seed, layer).double()
        if unset := [name for name, parameter in module.named_parameters() if parameter.isnan().any()]:
            pytest.skip(f"{self.said}: {unset[0]} has no initial values")
        return module

    def moved(self, by: int = 0) -> Any:
        """Away from its initial values, where a projection of zeros would hide what comes before it. In float64."""
        module = self.started()
        with torch.no_grad():
            for i, parameter in enumerate(module.parameters()):
                parameter.add_(0.2 * noise(*parameter.shape, seed=1000 * by + i))
        return module

    def inputs(self, batch: int, time: int, seed: int = 7) -> tuple[Tensor, ...]:
        """What it is called with, each (batch, time, d_model): x, or of a fusion r, m and x."""
        n = 3 if self.component.kind == "fusion" else 1
        return noise(n, batch, time, self.d_model, seed=seed).unbind()

    def fail(self, sentence: str) -> NoReturn:
        """The test's failure: who, and what to mend."""
        pytest.fail(f"{self.said}: {sentence}", pytrace=False)


def words(component: Component) -> str:
    """mixer rwkv6"""
    return f"{component.kind.replace('_', '-')} {component.name}"


def make(component: Component, d_model: int, options: dict[str, Any], layer: int = 1, n_layer: int = 3) -> Any:
    """A component of a model by its options; of another kind the options alone. ConfigError for those that it refuses."""
    if component.kind not in MODEL_KINDS:
        return validated(component.config, options, component.name)
    place = (d_model,) if component.kind == "fusion" else (d_model, layer, n_layer)
    return component.load()(*place, **options)


def call(module: Any, inputs: tuple[Tensor, ...], state: Any = None, weights: Weights | None = None) -> tuple[Tensor, Any]:
    """The output and the state after some inputs, of whatever kind the module is. weights: others than its own, by name."""
    out = module(*inputs, state) if weights is None else functional_call(module, weights, (*inputs, state))
    return (out.y, out.state) if isinstance(out, Fused) else out


def in_pieces(module: Any, inputs: tuple[Tensor, ...], lengths: list[int]) -> Tensor:
    """The output of the same inputs in pieces of these lengths, each going on from the state of the one before."""
    pieces, state = [], None
    for piece in zip(*(x.split(lengths, dim=1) for x in inputs), strict=True):
        y, state = call(module, piece, state)
        pieces.append(y)
    return torch.cat(pieces, dim=1)


def tensors(state: Any) -> list[Tensor]:
    """All tensors of a state."""
    return [leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor)]


def noise(*shape: int, seed: int = 7) -> Tensor:
    """N(0, 1), float64, from a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest number expected (at least of 1); infinite where one is not finite."""
    if not expected.numel():
        return 0.0
    difference = (found - expected).detach().abs().max() / expected.detach().abs().max().clamp(min=1)
    return difference.nan_to_num(nan=torch.inf).item()


@cache
def subjects(argument: str) -> tuple[Any, ...]:
    """What a test's argument of this name stands for, one after the other."""
    found = [own for kind in ASKED[argument] for own in tested(kind)]
    if argument in WHOLE:
        return tuple(map(Whole, found))
    return tuple(subject for own in found for subject in settings(own))


@dataclass(frozen=True)
class Whole:
    """A component, with all its options."""

    component: Component

    def __str__(self) -> str:
        return f"{self.component.kind}-{self.component.name}"

    def fail(self, sentence: str) -> NoReturn:
        """The test's failure: who, and what to mend."""
        pytest.fail(f"{words(self.component)}: {sentence}", pytrace=False)


def tested(kind: str) -> list[Component]:
    """The components of the project: those whose source is in the folder that pytest runs in, and not installed there."""
    return [own for own in components(kind).values() if _is_here(own.module)]


def _is_here(module: str) -> bool:
    file = Path(str(getattr(find_spec(module), "origin", None))).resolve()
    return file.is_relative_to(Path.cwd().resolve()) and "site-packages" not in file.parts


@cache
def smallest(component: Component) -> Subject:
    """At the first width at which it can be built, with whole numbers above SMALL made small where it still can."""
    if component.kind not in MODEL_KINDS:
        return Subject(component, 0, {})
    small = {name: SMALL for name, (kind, default) in component.options.items() if _is_large(kind, default)}
    tries = [(width, sizes) for width in WIDTHS for sizes in (small, {})]
    return next((Subject(component, *own) for own in tries if builds(component, *own)), Subject(component, WIDTHS[-1], {}))


@cache
def settings(component: Component) -> list[Subject]:
    """The component as it is, with each option at another value (of a choice, at each other), and with all of them at once."""
    plain = smallest(component)
    found = [plain]
    all_at_once: dict[str, Any] = {}
    for option in component.options:
        fitting = [v for v in others(component, option) if builds(component, plain.d_model, {**plain.sizes, option: v})]
        kept = fitting if is_choice(component, option) else fitting[:1]
        found += [Subject(component, plain.d_model, plain.sizes, {option: value}) for value in kept]
        if kept and builds(component, plain.d_model, {**plain.sizes, **all_at_once, option: kept[0]}):
            all_at_once[option] = kept[0]
    return found + ([Subject(component, plain.d_model, plain.sizes, all_at_once)] if len(all_at_once) > 1 else [])


def others(component: Component, option: str) -> list[Any]:
    """Values of an option's type that are not what it is at a tiny size."""
    kind, default = component.options[option]
    by_kind = (get_args(own) if get_origin(own) is Literal else OTHERS.get(own, ()) for own in types_of(kind))
    usual = smallest(component).sizes.get(option, default)
    return [value for allowed in by_kind for value in allowed if value != usual]


def is_choice(component: Component, option: str) -> bool:
    """Whether its values can be counted, and so are all meant."""
    return all(own is bool or get_origin(own) is Literal for own in types_of(component.options[option][0]))


def builds(component: Component, d_model: int, options: dict[str, Any]) -> bool:
    """Whether the component takes these options, which needs no memory."""
    try:
        with torch.device("meta"):
            make(component, d_model, options)
    except ConfigError:
        return False
    return True


def _is_large(kind: Any, default: Any) -> bool:
    return int in types_of(kind) and isinstance(default, int) and default > SMALL


def types_of(kind: Any) -> Iterator[Any]:
    """The types that the values of an option can have, without their bounds."""
    if get_origin(kind) is Annotated:
        yield from types_of(get_args(kind)[0])
    elif get_origin(kind) in (Union, types.UnionType):
        for own in get_args(kind):
            yield from types_of(own)
    elif kind is not type(None):
        yield kind


def named(module: nn.Module) -> Weights:
    """Its parameters by name, apart from it."""
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
