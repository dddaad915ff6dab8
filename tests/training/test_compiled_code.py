"""Compiled code is shared by the parts that compute the same, and by no others."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from corpus import words
from torch import nn

from gt.catalogue import MODEL_KINDS, Component, components
from gt.conformance.subjects import settings
from gt.data.tokens import Tokens
from gt.models.mixers.base import Mixer
from gt.ops import backend
from gt.spec import RunSpec
from gt.training import regions
from gt.training.cohort import Cohort
from gt.training.regions import structure

CPU = torch.device("cpu")
SIZES = {"head_size": 8, "head_dim": 8, "d_state": 8, "n_head": 2}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens.open(words(tmp_path_factory.mktemp("data")))


@pytest.fixture
def not_compiled() -> Iterator[None]:
    """The compiler gives every function back as it is; whose function a part is given remains to be seen."""
    regions._compiled.clear()
    with torch._dynamo.config.patch(disable=True):
        yield
    regions._compiled.clear()


def specification(component: Component, options: dict[str, Any]) -> RunSpec:
    """A layer with the component in it."""
    sizes = {name: value for name, value in SIZES.items() if name in component.options}
    own = {"name": component.name, **sizes, **options}
    rwkv6, mamba2 = {"name": "rwkv6", "head_size": 8}, {"name": "mamba2", "head_dim": 8, "d_state": 8}
    model: dict[str, Any] = {"layers": "r+m", "mixers": {"r": rwkv6, "m": mamba2}, "fusion": {"name": "gated"}}
    if component.kind == "mixer":
        model |= {"layers": "r", "mixers": {"r": own}, "fusion": None}
    else:
        model |= {component.kind: own}
    training = {"steps": 1, "batch_size": 2, "sequence_length": 16, "warmup_ratio": 0.0, "evaluation_tokens": 32}
    return RunSpec.model_validate(
        {
            "corpus": {"name": "embedded"}, "tokenizer": {"name": "char"}, "seed": 0, "training": training,
            "model": {"d_model": 16, "n_layer": 1, **model},
        }
    )  # fmt: skip


def tried(component: Component) -> list[RunSpec]:
    """The component as it is, and with other values of its options."""
    return [specification(component, setting.sizes | setting.changed) for setting in settings(component)]


def after_a_step(spec: RunSpec, tokens: Tokens, compiled: bool) -> torch.Tensor:
    cohort = Cohort([spec], tokens, CPU, torch.float64, compiled=compiled)
    generator = torch.Generator().manual_seed(0)
    # Not as they start: what a projection of zeros lets through, or a gate of one half, is the same for many.
    cohort.weights.add_(0.1 * torch.randn(cohort.weights.shape, generator=generator, dtype=torch.float64))
    cohort.plan.prepare(0)
    cohort._step()
    return cohort.weights.detach().clone()


COMPONENTS = [component for kind in MODEL_KINDS for component in components(kind).values()]


@pytest.mark.usefixtures("not_compiled")
@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: f"{component.kind}-{component.name}")
def test_no_setting_of_a_component_is_trained_by_the_code_of_another(component: Component, tokens: Tokens) -> None:
    """One after the other in this process, and the other way round."""
    specs = tried(component)
    expected = [after_a_step(spec, tokens, compiled=False) for spec in specs]
    for order in (1, -1):
        regions._compiled.clear()
        for spec, weights in list(zip(specs, expected, strict=True))[::order]:
            found = after_a_step(spec, tokens, compiled=True)
            torch.testing.assert_close(
                found, weights, rtol=1e-9, atol=1e-11, msg=lambda text, spec=spec: f"{spec.model}: {text}"
            )


def test_the_settings_that_are_tried_are_many() -> None:
    assert sum(len(tried(component)) for component in COMPONENTS) > 80
    assert len(tried(components("fusion")["independent_gates"])) == 2


def test_compiled_code_of_one_activation_does_not_serve_another(tokens: Tokens) -> None:
    """With the compiler itself."""
    component = components("fusion")["independent_gates"]
    specs = [specification(component, {"activation": name}) for name in ("sigmoid", "silu")]
    for spec in specs:
        found, expected = (after_a_step(spec, tokens, compiled) for compiled in (True, False))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


class Scaled(Mixer):
    """Scales its input.

    Reads the number of its layer where it should read nothing but what `build` has kept.
    """

    name = "scaled"

    def forward(self, x: torch.Tensor, state: Any = None) -> Any:
        return self._scaled(x), None

    def _scaled(self, x: torch.Tensor) -> torch.Tensor:
        return x * (1 + self.layer)


def test_layers_share_no_code_where_it_reads_their_number() -> None:
    assert structure(Scaled(8, 0, 2)) == structure(Scaled(8, 0, 2))
    assert structure(Scaled(8, 0, 2)) != structure(Scaled(8, 1, 2))


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Options:
    scale: float
    names: tuple[str, ...] = ()


def half(x: torch.Tensor) -> torch.Tensor:
    return x / 2


def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


class Held(nn.Module):
    """A module with one attribute."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value


DIFFERENT: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "function": (lambda: half, lambda: double),
    "built-in function": (lambda: torch.sigmoid, lambda: torch.tanh),
    "lambda": (lambda: lambda x: x, lambda: lambda x: -x),
    "partial": (lambda: functools.partial(torch.add, other=1), lambda: functools.partial(torch.add, other=2)),
    "method": (lambda: Options(1.0).__init__, lambda: Options(2.0).__init__),  # type: ignore[misc]
    "class": (lambda: nn.ReLU, lambda: nn.GELU),
    "enum": (lambda: Colour.RED, lambda: Colour.BLUE),
    "dataclass": (lambda: Options(1.0), lambda: Options(2.0)),
    "nested": (lambda: [{"a": (Options(1.0, ("x",)),)}], lambda: [{"a": (Options(1.0, ("y",)),)}]),
    "set": (lambda: {"r", "m"}, lambda: {"r"}),
    "kind of number": (lambda: 1, lambda: True),
    "none": (lambda: None, lambda: 0),
    "dtype": (lambda: torch.float32, lambda: torch.float64),
    "tensor": (lambda: torch.tensor([1.0, 2.0]), lambda: torch.tensor([1.0, 3.0])),
    "dtype of a tensor": (lambda: torch.tensor([0]), lambda: torch.tensor([0.0], dtype=torch.float64)),
    "modules in a list": (lambda: [nn.GELU("tanh")], lambda: [nn.GELU("none")]),
    "specification": (lambda: RunSpec.model_fields["seed"].annotation, lambda: None),
}
ALIKE = ["function", "built-in function", "class", "enum", "dataclass", "nested", "set", "none", "tensor", "modules in a list"]


@pytest.mark.parametrize("case", DIFFERENT)
def test_parts_that_differ_in_an_attribute_share_no_code(case: str) -> None:
    one, other = (Held(make()) for make in DIFFERENT[case])
    assert structure(one) != structure(other)


@pytest.mark.parametrize("case", ALIKE)
def test_parts_with_equal_attributes_share_code(case: str) -> None:
    one, other = (Held(DIFFERENT[case][0]()) for _ in range(2))
    assert structure(one) == structure(other)


def test_an_attribute_that_cannot_be_told_apart_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Held\.value is a object, of which compiled code cannot be told apart"):
        structure(Held(object()))


def test_a_part_with_hooks_is_refused() -> None:
    part = Held(1)
    part.register_forward_hook(lambda *_: None)
    with pytest.raises(TypeError, match="Held has hooks"):
        structure(part)


def test_parts_that_differ_in_a_buffer_share_no_code() -> None:
    one, other, like = Held(0), Held(0), Held(0)
    for module, value in ((one, 1.0), (other, 2.0), (like, 1.0)):
        module.register_buffer("table", torch.full((3,), value))
    assert structure(one) != structure(other)
    assert structure(one) == structure(like)


def test_classes_of_one_name_share_no_code() -> None:
    def made() -> nn.Module:
        class Part(nn.Module):
            pass

        return Part()

    one, other = made(), made()
    assert structure(one) != structure(other)


@pytest.mark.usefixtures("not_compiled")
def test_code_for_one_backend_does_not_serve_another(tokens: Tokens) -> None:
    component = components("mixer")["rwkv6"]
    Cohort([specification(component, {})], tokens, CPU, compiled=True)
    known = set(regions._compiled)
    with backend.use("chunked"):
        Cohort([specification(component, {})], tokens, CPU, compiled=True)
    assert set(regions._compiled) - known
