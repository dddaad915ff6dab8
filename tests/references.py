"""Holding the engine against the reference trainer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from runs import go_on

from gt.data.tokens import Tokens
from gt.spec import RunSpec
from gt.training import reference
from gt.training.cohort import Cohort
from gt.training.objective import InRegions


def masked(tokens: Tokens, length: int) -> Tokens:
    """Of every window from none to all targets count."""
    rng = np.random.default_rng(0)

    def answers(n: int) -> np.ndarray:
        shares = np.repeat(rng.choice([0.0, 0.05, 0.5, 1.0], -(-n // length)), length)[:n]
        return rng.random(n) < shares

    return replace(tokens, answers={split: answers(len(getattr(tokens, split))) for split in ("train", "val", "test")})


def in_regions(specs: list[RunSpec], tokens: Tokens) -> Cohort:
    """Trained in regions that are not compiled, in float64."""
    cohort = Cohort(specs, tokens, torch.device("cpu"), torch.float64)
    runs = (cohort.model, cohort.subject.leaves, len(specs), cohort.training)
    cohort.stepper.objective = cohort.validator.objective = InRegions(*runs, compiled=False)
    return go_on(cohort)


def assert_agree(cohort: Cohort, run: int, expected: reference.Trained) -> None:
    """All weights, and all that curves say of each step, to 1e-10. Every step has to be logged."""
    for name, weight in cohort.parameters(run).items():
        own = expected.model.get_parameter(name).detach()
        torch.testing.assert_close(weight, own, rtol=1e-10, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")
    curves = cohort.book.curves[run]
    for row, expected_row in zip(curves.rows, expected.rows, strict=True):
        found = {name: x for name, x in zip(curves.columns, row, strict=True) if name != "timestamp" and not np.isnan(x)}
        assert found == pytest.approx({n: x for n, x in expected_row.items() if not np.isnan(x)}, rel=1e-10, abs=1e-10)
