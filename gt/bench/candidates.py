"""What is measured: comparisons, each a list of candidates that take turns. Nothing here imports torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, Literal

from gt.documents import merge
from gt.errors import ConfigError, nearest
from gt.spec import RunSpec
from gt.study import load_study

Engine = Literal["eager", "graph"]
ENGINES: tuple[Engine, ...] = ("graph", "eager")
# What a user would write in place of ours; see gt/bench/peers/.
Rival = Literal["JAX", "JAX, cuDNN", "transformers", "transformers, compiled", "transformers, reduce-overhead", "FLA's layers"]
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

    engine, compiled, backend: None is what training would choose. rival: which other program does the same work; None: ours.
    """

    name: str
    spec: RunSpec
    stacked: int = 1
    cohorts: int = 1
    engine: Engine | None = None
    compiled: bool | None = None
    backend: str | None = None  # of the recurrences
    rival: Rival | None = None
    followed: bool = True  # whether each step measures the norms that curves show

    def specs(self, first_seed: int = 0) -> list[list[RunSpec]]:
        """Those of each cohort; the runs differ in their seeds."""
        seeds = itertools.count(first_seed)
        return [[self.spec.model_copy(update={"seed": next(seeds)}) for _ in range(self.stacked)] for _ in range(self.cohorts)]

    def sent(self) -> dict[str, Any]:
        """As plain values, for another process."""
        return {**vars(self), "spec": self.spec.model_dump(mode="json")}

    @classmethod
    def received(cls, sent: dict[str, Any]) -> Candidate:
        """The inverse of `sent`."""
        return cls(**{**sent, "spec": RunSpec.model_validate(sent["spec"])})


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


def _peers(specs: Specs) -> list[Candidate]:
    """Ours beside the programs that do the same work for many runs at once; those that tell most first."""
    entrants: list[tuple[str, Rival | None]] = [(name, rival) for name in (TRANSFORMER, HYBRID) for rival in (None, "JAX")]
    n = STACKS[0]
    return [
        Candidate(f"{name}, {n} stacked{f', {rival}' * (rival is not None)}", specs[name], stacked=n, rival=rival)
        for name, rival in (*entrants, (TRANSFORMER, "JAX, cuDNN"))
    ]


def _alone(specs: Specs) -> list[Candidate]:
    """The same for a single run, where there are more of them."""
    in_torch: list[Rival] = ["transformers", "transformers, compiled", "transformers, reduce-overhead"]
    rivals: dict[str, list[Rival]] = {TRANSFORMER: ["JAX", *in_torch, "JAX, cuDNN"], HYBRID: ["JAX", "FLA's layers"]}
    ours = [Candidate(name, specs[name]) for name in rivals]
    return [*ours, *(Candidate(f"{name}, {rival}", specs[name], rival=rival) for name, own in rivals.items() for rival in own)]


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
    ours = [Candidate(f"{HYBRID}, 16 stacked", specs[HYBRID], stacked=16), Candidate(HYBRID, specs[HYBRID])]
    return [*ours, Candidate(f"{HYBRID}, JAX", specs[HYBRID], rival="JAX")]


def _measuring(specs: Specs) -> list[Candidate]:
    return [Candidate(name, specs[name]) for name in (HYBRID, TRANSFORMER)]


def _step(specs: Specs) -> list[Candidate]:
    own = [Candidate(f"{name}, {STACKS[0]} stacked", specs[name], stacked=STACKS[0]) for name in (HYBRID, TRANSFORMER)]
    return [*own, Candidate(HYBRID, specs[HYBRID])]


COMPARISONS: dict[str, Callable[[Specs], list[Candidate]]] = {
    "models": _models,
    "engines": _engines,
    "backends": _backends,
    "stacks": _stacks,
    "cohorts": _cohorts,
    "peers": _peers,
    "alone": _alone,
    "curves": _curves,
    "variants": _variants,
    "starts": _starts,
    "measuring": _measuring,
    "step": _step,
}
# Those that are no list of candidates: the recurrences alone, peers by size, and several GPUs.
NAMES = (*COMPARISONS, "ops", "sizes", "worlds")


def candidates(comparison: str, study: Path, quick: bool) -> list[Candidate]:
    """Those of a comparison, at the sizes of a study. ConfigError where the study lacks a variant that it needs."""
    training = ({"steps": 8} if quick else {}) if comparison == "measuring" else ENDLESS
    specs = specifications(study, QUICK if quick else {}, {"training": training})
    with needing(comparison, study, specs):
        found = COMPARISONS[comparison](specs)
    return list({small.name: small for small in map(_small, found)}.values()) if quick else found


def _small(candidate: Candidate) -> Candidate:
    """The same with two runs stacked, if it says that it has more."""
    name = candidate.name.replace(f"{candidate.stacked} stacked", "2 stacked")
    return replace(candidate, stacked=2, name=name) if candidate.stacked > 2 and name != candidate.name else candidate


def specifications(study: Path, *changes: Any, factors: Mapping[str, Any] | None = None) -> Specs:
    """A run of each variant of a study, with changes; where cells have these factors, if any are said."""
    plan = load_study(study).plan()
    specs: Specs = {}
    for cell in (cell for cell in plan.cells if factors in (None, cell.factors)):
        specs.setdefault(cell.variant, RunSpec.model_validate(reduce(merge, changes, plan.spec(cell).model_dump())))
    return specs


@contextmanager
def needing(comparison: str, study: Path, specs: Specs) -> Iterator[None]:
    """In which a variant that is not among `specs` is a ConfigError."""
    try:
        yield
    except KeyError as missing:
        variant = str(missing.args[0])
        needs = f"{study}: the comparison {comparison!r} needs the variant {variant!r}."
        raise ConfigError(needs + nearest(variant, specs)) from None


def affordable(candidate: Candidate, gpu: bool) -> bool:
    """Whether a device can run it: a CPU has no graphs and no kernels, and more than two runs tell nothing new there."""
    if candidate.rival not in (None, "JAX", "transformers") and not gpu:
        return False
    plain = candidate.engine != "graph" and not candidate.compiled and candidate.backend in (None, "chunked")
    return gpu or (plain and candidate.stacked * candidate.cohorts <= 2)
