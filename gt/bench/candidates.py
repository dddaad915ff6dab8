"""What is measured: comparisons, each a list of candidates that take turns. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gt.documents import merge
from gt.errors import ConfigError, nearest
from gt.spec import RunSpec
from gt.study import load_study

Engine = Literal["eager", "graph"]
ENGINES: tuple[Engine, ...] = ("graph", "eager")
HYBRID, TRANSFORMER = "GF-MH", "GPT-2"
STACKS = (16, 8, 1, 4, 2)  # those that tell most first, in case that time runs out
# Training never ends, and curves are never due, while it is measured.
ENDLESS = {"steps": 10**9, "evaluate_every": 10**9, "log_every": 10**9}
# Sizes at which all of it can be tried on a CPU.
QUICK = {
    "model": {"d_model": 64, "n_layer": 2},
    "training": {"batch_size": 4, "sequence_length": 32, "evaluation_tokens": 256},
}


@dataclass(frozen=True)
class Candidate:
    """A way to train: `cohorts` on streams of their own, each of `stacked` runs of a specification.

    engine, compiled, backend: None is what training would choose. familiar: the layers and the loop that users know, with
    FLA's mixers in place of ours.
    """

    name: str
    spec: RunSpec
    stacked: int = 1
    cohorts: int = 1
    engine: Engine | None = None
    compiled: bool | None = None
    backend: str | None = None  # of the recurrences
    familiar: bool = False
    followed: bool = True  # whether each step measures the norms that curves show

    def specs(self) -> list[list[RunSpec]]:
        """Those of each cohort; the runs differ in their seeds."""
        seeds = iter(range(self.stacked * self.cohorts))
        return [[self.spec.model_copy(update={"seed": next(seeds)}) for _ in range(self.stacked)] for _ in range(self.cohorts)]


Specs = dict[str, RunSpec]


def _models(specs: Specs) -> list[Candidate]:
    return [Candidate(name, specs[name]) for name in (HYBRID, TRANSFORMER, "RWKV-6", "Mamba-2")]


def _engines(specs: Specs) -> list[Candidate]:
    return [
        Candidate(f"{name}, {engine}{', compiled' if compiled else ''}", specs[name], engine=engine, compiled=compiled)
        for name in (HYBRID, TRANSFORMER)
        for engine in ENGINES
        for compiled in (False, True)
    ]


def _backends(specs: Specs) -> list[Candidate]:
    theirs = (("RWKV-6", "fla"), ("Mamba-2", "mamba_ssm"))
    ours = [(name, backend) for name in ("RWKV-6", "Mamba-2", HYBRID) for backend in ("chunked", "chunks", "positions")]
    return [Candidate(f"{name}, {backend}", specs[name], backend=backend) for name, backend in (*ours, *theirs)]


def _stacks(specs: Specs) -> list[Candidate]:
    return [Candidate(f"{name}, {n} stacked", specs[name], stacked=n) for n in STACKS for name in (TRANSFORMER, HYBRID)]


def _cohorts(specs: Specs) -> list[Candidate]:
    shapes = ((4, 4), (1, 16), (16, 1), (2, 8))
    return [
        Candidate(f"{name}, {cohorts} x {stacked}", specs[name], stacked=stacked, cohorts=cohorts)
        for cohorts, stacked in shapes
        for name in (HYBRID, TRANSFORMER)
    ]


def _familiar(specs: Specs) -> list[Candidate]:
    known = Candidate(f"{HYBRID}, FLA's layers in a plain loop", specs[HYBRID], engine="eager", compiled=False, familiar=True)
    plain = Candidate(f"{TRANSFORMER}, plain loop", specs[TRANSFORMER], engine="eager", compiled=False, familiar=True)
    return [Candidate(HYBRID, specs[HYBRID]), known, Candidate(TRANSFORMER, specs[TRANSFORMER]), plain]


def _curves(specs: Specs) -> list[Candidate]:
    return [
        Candidate(f"{name}, {n} stacked, {'with' if followed else 'without'} curves", specs[name], stacked=n, followed=followed)
        for name in (HYBRID, TRANSFORMER)
        for n in (1, 5)
        for followed in (True, False)
    ]


def _variants(specs: Specs) -> list[Candidate]:
    return [Candidate(name, spec) for name, spec in specs.items()]


def _starts(specs: Specs) -> list[Candidate]:
    return [Candidate(f"{HYBRID}, 16 runs", specs[HYBRID], stacked=16), Candidate(HYBRID, specs[HYBRID])]


def _measuring(specs: Specs) -> list[Candidate]:
    return [Candidate(name, specs[name]) for name in (HYBRID, TRANSFORMER)]


COMPARISONS: dict[str, Callable[[Specs], list[Candidate]]] = {
    "models": _models,
    "engines": _engines,
    "backends": _backends,
    "stacks": _stacks,
    "cohorts": _cohorts,
    "familiar": _familiar,
    "curves": _curves,
    "variants": _variants,
    "starts": _starts,
    "measuring": _measuring,
}
NAMES = (*COMPARISONS, "ops")  # the recurrences alone: gt/bench/recurrences.py


def candidates(comparison: str, study: Path, quick: bool) -> list[Candidate]:
    """Those of a comparison, at the sizes of a study. ConfigError where the study lacks a variant that it needs."""
    plan = load_study(study).plan()
    training = ({"steps": 8} if quick else {}) if comparison == "measuring" else ENDLESS
    changes: Any = merge(QUICK if quick else {}, {"training": training})
    specs: Specs = {}
    for cell in plan.cells:
        specs.setdefault(cell.variant, RunSpec.model_validate(merge(plan.spec(cell).model_dump(), changes)))
    try:
        return COMPARISONS[comparison](specs)
    except KeyError as missing:
        variant = str(missing.args[0])
        needs = f"{study}: the comparison {comparison!r} needs the variant {variant!r}."
        raise ConfigError(needs + nearest(variant, specs)) from None


def affordable(candidate: Candidate, gpu: bool) -> bool:
    """Whether a device can run it: a CPU has no graphs and no kernels, and more than two runs tell nothing new there."""
    plain = candidate.engine != "graph" and not candidate.compiled and candidate.backend in (None, "chunked")
    return gpu or (plain and candidate.stacked * candidate.cohorts <= 2)
