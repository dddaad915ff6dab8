"""What the options of a part of a model promise."""

from __future__ import annotations

import math
from typing import Any

import torch

from gt.conformance.subjects import Subject, Whole, builds, call, is_choice, make, named, others, smallest, tensors, types_of
from gt.errors import ConfigError

# Numbers that make no sense for most options: they are refused in a sentence, or do no harm.
NONSENSE: dict[type, tuple[Any, ...]] = {int: (0, -1, 7), float: (-1.0, 0.0)}


def test_each_value_of_an_option_can_be_built(model_component: Whole) -> None:
    """Each of a choice, and at least one other number than the default."""
    component = model_component.component
    plain = smallest(component)
    for option in component.options:
        values = others(component, option)
        fitting = [value for value in values if builds(component, plain.d_model, {**plain.sizes, option: value})]
        if values and (not fitting or (is_choice(component, option) and fitting != values)):
            wrong = next(value for value in values if value not in fitting)
            try:
                make(component, plain.d_model, {**plain.sizes, option: wrong})
            except ConfigError as error:
                model_component.fail(f"its option {option} allows {wrong!r}, with which it cannot be built ({error})")


def test_each_option_changes_something(model_component: Whole) -> None:
    """Its parameters, their initial values, its output or its state."""
    component = model_component.component
    plain = smallest(component)
    usual = _seen(plain)
    for option in component.options:
        values = [v for v in others(component, option) if builds(component, plain.d_model, {**plain.sizes, option: v})]
        if values and all(_alike(usual, _seen(Subject(component, plain.d_model, plain.sizes, {option: v}))) for v in values):
            model_component.fail(
                f"its option {option} changes nothing: with {' or '.join(map(repr, values))} it has the same parameters, "
                "initial values, output and state. Is it read in build()?"
            )


def test_nonsense_is_refused_in_a_sentence(model_component: Whole) -> None:
    """By its Config's bounds, or by a ConfigError of build(); what is accepted works."""
    component = model_component.component
    plain = smallest(component)
    _refused(model_component, plain, "no_such_option", 1)
    for option, (kind, default) in component.options.items():
        for value in (math.nan, *(() if str in types_of(kind) else ("nonsense",))):
            _refused(model_component, plain, option, value)
        for value in NONSENSE.get(type(default), ()):
            _refused_or_works(model_component, plain, option, value)


def _refused(who: Whole, plain: Subject, option: str, value: Any) -> None:
    try:
        make(who.component, plain.d_model, {**plain.sizes, option: value})
    except ConfigError as error:
        if option not in str(error):
            who.fail(f"{option} = {value!r} is refused in words that do not name the option: {error}")
    else:
        who.fail(f"{option} = {value!r} is accepted: derive its Config from Options, with types and bounds (gt.options).")


def _refused_or_works(who: Whole, plain: Subject, option: str, value: Any) -> None:
    setting = Subject(who.component, plain.d_model, plain.sizes, {option: value})
    try:
        y, _ = call(setting.moved(), setting.inputs(2, 5))
        if y.isfinite().all():
            return
        found = "gives numbers that are not finite"
    except ConfigError as error:
        if option in str(error):
            return
        found = f"is refused in words that do not name the option ({error})"
    except Exception as error:
        found = f"ends in {type(error).__name__} ({error})"
    who.fail(f"{option} = {value!r} {found}: bound it in Config (as gt.options.Count), or raise a ConfigError that names it.")


def _seen(setting: Subject) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """Its initial values, and what it gives once they have moved."""
    with torch.no_grad():
        y, state = call(setting.moved(), setting.inputs(2, 11))
    return named(setting.started()), [y, *tensors(state)]


def _alike(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    if list(one[0]) != list(other[0]) or len(one[1]) != len(other[1]):
        return False
    pairs = [*zip(one[0].values(), other[0].values(), strict=True), *zip(one[1], other[1], strict=True)]
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)
