"""What a component says of itself."""

from __future__ import annotations

import torch

from gt.conformance.subjects import Whole, make
from gt.options import Options


def test_the_docstring_says_what_it_is(component: Whole) -> None:
    """Its first paragraph is what `gt list` and the reports print."""
    if not component.component.summary:
        component.fail("the class has no docstring: its first paragraph is what `gt list` and the reports say of it.")


def test_the_docstring_has_formula_and_source(model_component: Whole) -> None:
    """The reports' tables have both, in LaTeX too, hence ASCII."""
    own = model_component.component
    if "=" not in own.formula:
        model_component.fail(f"the docstring has no equation after 'Formula:' (found: {own.formula!r}).")
    if not own.source:
        model_component.fail("the docstring does not say where it comes from: add 'Source: ...' (a new idea has your name).")
    if not (own.formula + own.source).isascii():
        strange = sorted({letter for letter in own.formula + own.source if not letter.isascii()})
        model_component.fail(f"formula and source are printed in LaTeX's tables: write {' '.join(strange)} in ASCII.")


def test_the_docstring_counts_the_parameters(model_component: Whole) -> None:
    """At d_model 128, options at their defaults: a number that a reader can check, and that a slip of the code changes."""
    own = model_component.component
    with torch.device("meta"):
        n = sum(parameter.numel() for parameter in make(own, 128, {}, 0, 8).parameters())
    if own.parameters is None:
        model_component.fail(f"the docstring does not count its parameters: add 'Parameters: {n:,} at d_model 128'.")
    if n != own.parameters:
        model_component.fail(
            f"it has {n:,} parameters at d_model 128, where its docstring says {own.parameters:,}. Which of the two is meant?"
        )


def test_its_config_is_frozen_and_refuses_unknown_options(component: Whole) -> None:
    """As `gt.options.Options` does: a misspelt option must not be passed over, and a run's options must not change."""
    config = component.component.config
    if not (isinstance(config, type) and issubclass(config, Options)):
        component.fail("its Config is not derived from gt.options.Options, which is frozen and refuses unknown options.")
    if config.model_config.get("extra") != "forbid" or not config.model_config.get("frozen"):
        component.fail("its Config changes what gt.options.Options sets: leave it frozen, with unknown options forbidden.")
