"""Ours beside JAX over sizes: width, length of sequences, and how many runs are stacked, one at a time from where they meet.

A size takes minutes, most of them JAX's compiler. So what a file has, what failed included, is not measured
again, and several sessions fill one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gt.bench.candidates import ENDLESS, HYBRID, QUICK, TRANSFORMER, Candidate, Specs, needing, specifications
from gt.bench.events import Json
from gt.bench.measure import compare
from gt.documents import merge
from gt.spec import RunSpec

HEAD = 64  # of attention: a width of 192 in four heads goes with no power of two
ENTRANTS = ("ours", "JAX")


@dataclass(frozen=True)
class Size:
    """d_model, tokens in a sequence, and runs in a stack. The batch is the study's."""

    width: int = 128
    time: int = 64
    stack: int = 16


# Those that tell most first.
SIZES = (
    Size(),
    *(Size(width=width) for width in (1024, 512, 256)),
    *(Size(time=time) for time in (1024, 256, 512, 128)),
    *(Size(stack=stack) for stack in (1, 64, 4)),
)
SMALL = (Size(64, 32, 1), Size(64, 32, 2))


def sizes(study: Path, before: list[Json], device: torch.device, rounds: int, seconds: float, quick: bool) -> Iterator[Json]:
    """A row for each model, size and entrant that has none in `before`, as soon as it is measured.

    seconds: a size is begun if there is time for as long a one as the longest. ConfigError where the study lacks a model.
    """
    specs = specifications(study, QUICK if quick else {}, {"training": ENDLESS})
    known = {_key(row) for row in before}
    begin, longest = time.perf_counter(), 0.0
    for size in SMALL if quick else SIZES:
        for model in (TRANSFORMER, HYBRID):
            with needing("sizes", study, specs):
                pair = entrants(model, size, specs)
            if all((model, *vars(size).values(), entrant) in known for entrant in ENTRANTS):
                continue
            own_begin = time.perf_counter()
            if own_begin - begin + longest > seconds:
                return
            for entrant, row in zip(ENTRANTS, compare(pair, device, rounds), strict=True):
                yield {"model": model, **vars(size), "entrant": entrant, **row}
            longest = max(longest, time.perf_counter() - own_begin)


def entrants(model: str, size: Size, specs: Specs) -> list[Candidate]:
    """Ours and JAX's."""
    own = Candidate(f"{model}, {size.width} x {size.time} x {size.stack}", resized(specs[model], size), stacked=size.stack)
    return [own, replace(own, name=f"{own.name}, JAX", rival="JAX")]


def resized(spec: RunSpec, size: Size) -> RunSpec:
    """A run's specification at another size."""
    heads = {letter: {"n_head": size.width // HEAD} for letter, mixer in spec.model.mixers.items() if mixer.name == "attention"}
    model: Any = {"d_model": size.width, "mixers": heads}
    return RunSpec.model_validate(merge(spec.model_dump(), {"model": model, "training": {"sequence_length": size.time}}))


def merged(before: list[Json], rows: list[Json]) -> list[Json]:
    """Rows in place of those before of the same model, size and entrant; the others stay."""
    return list(({_key(row): row for row in before} | {_key(row): row for row in rows}).values())


def _key(row: Json) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("model", "width", "time", "stack", "entrant"))
