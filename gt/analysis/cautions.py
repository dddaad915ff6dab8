"""What a reader must know of a claim's cells beside its test: how little they learned, what is dead in them, what made them,
what they shared a device with.

None of it changes a verdict; each can make it say less than it seems to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from gt.analysis.aggregate import MAIN, ORDERS, label
from gt.analysis.claims import Place
from gt.analysis.phrases import BRANCHES
from gt.analysis.values import Values, is_count
from gt.fingerprint import TRAINING_PARTS
from gt.probes.metrics import metric
from gt.study import shortest

Json = dict[str, Any]
# Units of what is the slower the more a device has to do beside.
SPEEDS = ("s", "tokens/s", "tokens/$")
# A branch with less of what ablation costs than this does nothing.
DEAD = 1e-3


@dataclass(frozen=True)
class Undertrained:
    """A cell that does not beat an n-gram model of its own text, in bits per byte; order: the lowest that it does not beat."""

    cell: str
    corpus: str
    tokenizer: str
    mean: float
    order: str
    line: float


@dataclass(frozen=True)
class Dead:
    """A branch that does nothing in a cell, by its letter and its share of what zeroing either branch costs."""

    cell: str
    branch: str
    share: float


@dataclass(frozen=True)
class Edge:
    """A cell that was chosen for the highest or the lowest of all values of a setting: a better one may lie beyond."""

    cell: str
    setting: str
    end: Literal["highest", "lowest"]
    tried: int


@dataclass(frozen=True)
class Cautions:
    """versions: the cells of each version of the code that trained them, if one predicate sets several against each other.
    shared: the cells whose speeds are read, if other runs were on their devices.
    """

    undertrained: list[Undertrained]
    dead: list[Dead]
    edges: list[Edge]
    versions: list[list[str]]
    shared: list[str]


def cautions(compared: Sequence[Sequence[Place]], tuned: Sequence[tuple[Json, Sequence[Json]]], values: Values) -> Cautions:
    """compared: what each predicate of a claim reads. tuned: its cells whose settings others chose, with these.

    What is counted depends neither on training nor on its code; what is measured before training does not depend on training.
    """
    read = [[place for place in places if not is_count(place.metric)] for places in compared]
    trained = _cells([place for places in read for place in places if not place.metric.startswith("initial/")])
    mixed = [place for places in read for place in places if len(_versions(_cells(places), values)) > 1]
    return Cautions(
        [own for cell in trained if (own := _undertrained(cell, values))],
        [own for cell in trained for own in _dead(cell, values)],
        [own for cell, choices in tuned for own in _edges(cell, choices)],
        _versions(_cells(mixed), values),
        [
            label(cell)
            for cell in _cells([place for places in read for place in places if _is_speed(place)])
            if _shared(cell, values)
        ],
    )


def _cells(places: Sequence[Place]) -> list[Json]:
    """The cells of places, once each."""
    return list({place.cell["id"]: place.cell for place in places}.values())


def _undertrained(cell: Json, values: Values) -> Undertrained | None:
    runs = values.completed(cell["id"])
    mean = _mean(run.get(MAIN) for run in runs)
    for order in ORDERS:
        if mean >= (line := _mean(run.get(f"ngram/{order}") for run in runs)):
            return Undertrained(label(cell), cell["corpus"], cell["tokenizer"], mean, order, line)
    return None


def _mean(values: Iterable[float | None]) -> float:
    """Of those that there are; of none it is not a number, and neither above nor below any."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(known) if known else math.nan


def _dead(cell: Json, values: Values) -> list[Dead]:
    shares = {letter: values.of(Place("", cell, f"ablation/share/{letter}", None)) for letter in BRANCHES}
    means = {letter: fmean(own.values()) for letter, own in shares.items() if own}
    return [Dead(label(cell), letter, mean) for letter, mean in means.items() if abs(mean) < DEAD]


def _edges(cell: Json, choices: Sequence[Json]) -> Iterator[Edge]:
    short = shortest(cell["factors"])
    for path, value in cell["factors"].items():
        tried = sorted({own["factors"][path] for own in choices})
        if len(tried) > 1 and value in (tried[0], tried[-1]):
            yield Edge(label(cell), short[path], "highest" if value == tried[-1] else "lowest", len(tried))


def _is_speed(place: Place) -> bool:
    return metric(place.metric).unit in SPEEDS


def _shared(cell: Json, values: Values) -> bool:
    """Whether others were trained on the device at the same time, so that a run has a part of its time alone."""
    runs = values.completed(cell["id"])
    return _mean(run.get("device_seconds") for run in runs) < _mean(run.get("seconds") for run in runs)


def _versions(cells: list[Json], values: Values) -> list[list[str]]:
    """The cells by the version, or versions, of the code that trained them."""
    found: dict[frozenset[tuple[str, ...]], list[str]] = {}
    for cell in cells:
        versions = {tuple(str(run.get(f"code/{part}")) for part in TRAINING_PARTS) for run in values.completed(cell["id"])}
        found.setdefault(frozenset(versions), []).append(label(cell))
    return list(found.values())
