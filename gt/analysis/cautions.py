"""What a reader must know of a claim's cells beside its test: which seeds they lost, how little they learned and differ, what
is dead in them, what made them as far as that is not known, what they shared a device with.

None of it changes a verdict; each can make it say less than it seems to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from gt.analysis.aggregate import MAIN, ORDERS, label
from gt.analysis.claims import Place
from gt.analysis.values import PARTS, SHARE, Values, code, is_count, modified
from gt.artefacts import Cell
from gt.registry import metric
from gt.study import shortest

# Units of what is the slower the more a device has to do beside.
SPEEDS = ("s", "tokens/s", "tokens/$")
# A branch with less of what ablation costs than this does nothing.
DEAD = 1e-3
# Of what a ratio near one means the same for all models.
LOSSES = (MAIN, "val/loss", "test/bits_per_byte", "test/loss")


@dataclass(frozen=True)
class Lost:
    """A cell whose numbers rest on fewer seeds than were planned. seeds: the others, by what became of them."""

    cell: str
    completed: int
    planned: int
    seeds: dict[str, list[int]]


@dataclass(frozen=True)
class Close:
    """Two cells whose losses are within a margin in which they would count as the same. share: a less b, over b."""

    a: str
    b: str
    share: float
    margin: float


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
    """A branch that does nothing in a cell: its letter, its mixer, and its share of what zeroing either branch costs."""

    cell: str
    branch: str
    mixer: str
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
    """versions: the cells of each version of the whole package that trained them, if one predicate sets several against each
    other, and it is not known whether they differ in what the runs used. unheld: the cells of which it is not known whether a
    commit holds the code that trained them. shared: the cells whose speeds are read, if other runs were on their devices.
    edited: when the claim was registered and, edited, again, if that was before any run that is known of.
    """

    lost: list[Lost]
    close: list[Close]
    undertrained: list[Undertrained]
    dead: list[Dead]
    edges: list[Edge]
    versions: list[list[str]]
    unheld: list[str]
    shared: list[str]
    edited: list[str]


def cautions(
    compared: Sequence[Sequence[Place]],
    pairs: Sequence[tuple[Place, Place, float]],
    tuned: Sequence[tuple[Cell, Sequence[Cell]]],
    edited: list[str],
    values: Values,
) -> Cautions:
    """compared: what each predicate of a claim reads. pairs: what it compares without a least difference, each with the share
    that would not matter. tuned: its cells whose settings others chose, with these. edited: see `Cautions`.

    What is counted depends neither on training nor on its code; what is measured before training does not depend on training.
    """
    read = [[place for place in places if not is_count(place.metric)] for places in compared]
    trained = _cells([place for places in read for place in places if not place.metric.startswith("initial/")])
    chosen = [own for _, choices in tuned for own in choices]
    mixed = [place for places in read for place in places if len(_versions(_cells(places), values)) > 1]
    return Cautions(
        [lost for cell in {cell.id: cell for cell in (*trained, *chosen)}.values() if (lost := _lost(cell, values))],
        [close for a, b, margin in pairs if (close := _close(a, b, margin, values))],
        [own for cell in trained if (own := _undertrained(cell, values))],
        [own for cell in trained for own in _dead(cell, values)],
        [own for cell, choices in tuned for own in _edges(cell, choices)],
        _versions(_cells(mixed), values),
        [label(cell) for cell in trained if any(modified(run) is None for run in values.completed(cell.id))],
        [
            label(cell)
            for cell in _cells([place for places in read for place in places if _is_speed(place)])
            if _shared(cell, values)
        ],
        edited,
    )


def _cells(places: Sequence[Place]) -> list[Cell]:
    """The cells of places, once each."""
    return list({place.cell.id: place.cell for place in places}.values())


def _lost(cell: Cell, values: Values) -> Lost | None:
    statuses = values.statuses(cell)
    seeds: dict[str, list[int]] = {}
    for seed, status in statuses.items():
        if status != "completed":
            seeds.setdefault(status, []).append(seed)
    completed = list(statuses.values()).count("completed")
    return Lost(label(cell), completed, len(statuses), seeds) if seeds else None


def _close(a: Place, b: Place, margin: float, values: Values) -> Close | None:
    first, second = values.of(a), values.of(b)
    seeds = first.keys() & second.keys()
    if not seeds or a.metric != b.metric or a.metric not in LOSSES:
        return None
    share = fmean(first[seed] for seed in seeds) / fmean(second[seed] for seed in seeds) - 1
    return Close(label(a.cell), label(b.cell), share, margin) if abs(share) < margin else None


def _undertrained(cell: Cell, values: Values) -> Undertrained | None:
    runs = values.completed(cell.id)
    mean = _mean(run.get(MAIN) for run in runs)
    for order in ORDERS:
        if mean >= (line := _mean(run.get(f"ngram/{order}") for run in runs)):
            return Undertrained(label(cell), cell.corpus, cell.tokenizer, mean, order, line)
    return None


def _mean(values: Iterable[float | None]) -> float:
    """Of those that there are; of none it is not a number, and neither above nor below any."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(known) if known else math.nan


def _dead(cell: Cell, values: Values) -> list[Dead]:
    shares = {letter: values.of(Place("", cell, f"{SHARE}{letter}", None)) for letter in values.branches(cell.id)}
    dead = {letter: mean for letter, own in shares.items() if own and abs(mean := fmean(own.values())) < DEAD}
    mixers = values.plan.spec(cell).model.mixers if dead else {}
    return [Dead(label(cell), letter, mixers[letter].name, mean) for letter, mean in dead.items()]


def _edges(cell: Cell, choices: Sequence[Cell]) -> Iterator[Edge]:
    short = shortest(cell.factors)
    for path, value in cell.factors.items():
        tried = sorted({own.factors[path] for own in choices})
        if len(tried) > 1 and value in (tried[0], tried[-1]):
            yield Edge(label(cell), short[path], "highest" if value == tried[-1] else "lowest", len(tried))


def _is_speed(place: Place) -> bool:
    return metric(place.metric).unit in SPEEDS


def _shared(cell: Cell, values: Values) -> bool:
    """Whether others were trained on the device at the same time, so that a run has a part of its time alone."""
    runs = values.completed(cell.id)
    return _mean(run.get("device_seconds") for run in runs) < _mean(run.get("seconds") for run in runs)


def _versions(cells: list[Cell], values: Values) -> list[list[str]]:
    """The cells by the version, or versions, of the package that trained them, of which all are one whose modules are known."""
    found: dict[frozenset[tuple[str | None, ...]], list[str]] = {}
    for cell in cells:
        versions = {tuple(code(run).get(part) for part in PARTS) for run in values.completed(cell.id)}
        found.setdefault(frozenset(versions), []).append(label(cell))
    return list(found.values())
