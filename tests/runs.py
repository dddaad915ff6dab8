"""Short runs of a small hybrid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gt.data.tokens import Tokens
from gt.spec import RunSpec
from gt.training import checkpoint
from gt.training.cohort import Cohort

HYBRID: dict[str, Any] = {
    "d_model": 16,
    "n_layer": 2,
    "layers": "r+m",
    "mixers": {"r": {"name": "rwkv6", "head_size": 8}, "m": {"name": "mamba2", "head_dim": 8, "d_state": 8}},
    "fusion": {"name": "gated"},
    "feed_forward": {"name": "mlp"},
}
TRAINING: dict[str, Any] = {
    "steps": 12, "batch_size": 4, "sequence_length": 32, "learning_rate": 0.01, "weight_decay": 0.0,
    "evaluate_every": 5, "evaluation_tokens": 256, "log_every": 1,
}  # fmt: skip


def run_spec(model: dict[str, Any] | None = None, seed: int = 0, **training: Any) -> RunSpec:
    """The hybrid, or another model, and what is to be different in its training."""
    parts = {"corpus": {"name": "embedded"}, "tokenizer": {"name": "char"}, "model": model or HYBRID, "seed": seed}
    return RunSpec.model_validate({**parts, "training": {**TRAINING, **training}})


def cohort(specs: list[RunSpec], tokens: Tokens) -> Cohort:
    """In float64, on the CPU."""
    return Cohort(specs, tokens, torch.device("cpu"), torch.float64)


def trained(specs: list[RunSpec], tokens: Tokens, until: int | None = None) -> Cohort:
    """A cohort after all its steps, or some."""
    return go_on(cohort(specs, tokens), until)


def resumed(specs: list[RunSpec], tokens: Tokens, stop: int, folder: Path) -> Cohort:
    """A cohort that was stopped after some steps, and went on to the end as another object."""
    checkpoint.save(folder, trained(specs, tokens, stop), checkpoint.Progress())
    another = cohort(specs, tokens)
    assert isinstance(checkpoint.load(folder, another), checkpoint.Progress)
    assert another.step == stop
    return go_on(another)


def go_on(cohort: Cohort, until: int | None = None) -> Cohort:
    """Train to step `until`, the validation before step 0 included."""
    while not cohort.done and (cohort.step != until or cohort.collected < 0):
        cohort.advance(until)
        cohort.collect()
    return cohort


def column(cohort: Cohort, name: str, run: int = 0) -> list[float]:
    """A column of a run's curves."""
    curves = cohort.book.curves[run]
    return [row[curves.columns.index(name)] for row in curves.rows]


def assert_same(a: Cohort, run_of_a: int, b: Cohort, run_of_b: int = 0, **tolerance: float) -> None:
    """Two runs have the same weights and curves; to the bit, unless a tolerance is given."""
    tolerance = tolerance or {"rtol": 0.0, "atol": 0.0}
    for name, weight in a.parameters(run_of_a).items():
        torch.testing.assert_close(weight, b.parameters(run_of_b)[name], **tolerance)
    sides = ((a, run_of_a), (b, run_of_b))
    for name in a.book.curves[run_of_a].columns:
        if name != "timestamp":
            ours, theirs = (torch.tensor(column(c, name, run), dtype=torch.float64) for c, run in sides)
            torch.testing.assert_close(ours, theirs, **tolerance, equal_nan=True)
