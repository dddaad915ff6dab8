"""What a reader must know of a claim's cells beside its test: which seeds they lost, how little they learned and differ, what
is dead in them, what made them as far as that is not known, what else sets them apart, what their seeds share.

None of it changes a verdict; each can make it say less than it seems to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import scipy

from gt.analysis.aggregate import MAIN, MARGIN, ORDERS, label
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
# A loss by the length of the context, and how the metrics begin that have it in them.
CONTEXT, CONTEXTS = "context/loss", ("context/", "cost/north_star")
# By how much of the smaller one models that are compared may differ in size.
SIZE = 0.05
# Of so many tokens or items an evaluation is a sample whose own error matters beside that of the seeds.
MANY = 65_536
# A task is solved from this share of right answers on; a mean is of neither kind where some runs are so far below.
SOLVED, BELOW = 0.9, 0.25


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
class Fixed:
    """A cell that is compared with one of another variant or model, at a learning rate that nothing chose for it."""

    cell: str
    rate: float


@dataclass(frozen=True)
class Unlike:
    """Two variants that are compared, and of all that are differ most in what they have. share: b over a, less 1, above 0."""

    what: Literal["width", "parameters", "training tokens"]
    a: str
    b: str
    values: tuple[float, float]
    share: float


@dataclass(frozen=True)
class SameTokens:
    """An evaluation that reads the same few tokens or items with every seed, so that the interval over seeds has nothing of
    which they are. n: how many, None where that is not recorded. error: the standard error over them, where it is.
    """

    cell: str
    metric: str
    n: int | None
    error: float | None


@dataclass(frozen=True)
class Solved:
    """Cells of which some runs solved a task and others are far from it. seeds: of each, how many did, and of how many.

    p: by pair of cells, McNemar's exact test of the seeds that one solved and the other did not (a binomial test of one half).
    """

    metric: str
    seeds: dict[str, tuple[int, int]]
    p: list[tuple[str, str, float]]


@dataclass(frozen=True)
class Beyond:
    """A cell that is read in contexts longer than those of its training, and has a higher loss in them.

    losses: in nats a token, in contexts as long as those that are read, and as those that it was trained on.
    """

    cell: str
    context: int
    trained: int
    losses: tuple[float, float]


@dataclass(frozen=True)
class Cautions:
    """versions: the cells of each version of the whole package that trained them, if one predicate sets several against each
    other, and it is not known whether they differ in what the runs used. unheld: the cells of which it is not known whether a
    commit holds the code that trained them. shared: the cells whose speeds are read, unless their devices are known to have
    been theirs alone. constant: the metrics that came out the same in every run of each cell, as counts do.
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
    fixed: list[Fixed]
    unlike: list[Unlike]
    same_tokens: list[SameTokens]
    constant: list[str]
    solved: list[Solved]
    beyond: list[Beyond]


def cautions(
    compared: Sequence[Sequence[Place]],
    pairs: Sequence[tuple[Place, Place, float]],
    opponents: Sequence[tuple[Place, Place]],
    tuned: Sequence[tuple[Cell, Sequence[Cell]]],
    edited: list[str],
    values: Values,
) -> Cautions:
    """compared: what each predicate of a claim reads. pairs: what it compares without a least difference, each with the share
    that would not matter. opponents: all that it compares, two by two. tuned: its cells whose settings others chose, with
    these. edited: see `Cautions`.

    What is counted depends neither on training nor on its code; what is measured before training does not depend on training.
    """
    read = [[place for place in places if not is_count(place.metric)] for places in compared]
    trained = _cells([place for places in read for place in places if not place.metric.startswith("initial/")])
    chosen = [own for _, choices in tuned for own in choices]
    learned = [
        (a.cell, b.cell)
        for a, b in opponents
        if not any(is_count(own.metric) or _is_speed(own) or own.metric.startswith("initial/") for own in (a, b))
    ]
    apart = [(a, b) for a, b in learned if a.variant != b.variant]
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
        _fixed([pair for pair in learned if _other_models(*pair)], [cell for cell, _ in tuned], values),
        _unlike(apart, values),
        list(dict.fromkeys(same for places in read for place in places if (same := _same_tokens(place, values)))),
        list(dict.fromkeys(place.metric for places in compared for place in places if _constant(place, places, values))),
        [solved for places in read if (solved := _solved(places, opponents, values))],
        list(dict.fromkeys(beyond for places in read for place in places if (beyond := _beyond(place, values)))),
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
    """Whether a run has a part of its device's time alone, or nobody knows how much it has."""
    runs = values.completed(cell.id)
    seconds, own = _mean(run.get("seconds") for run in runs), [run.get("device_seconds") for run in runs]
    return math.isfinite(seconds) and (None in own or _mean(own) < seconds)


def _other_models(a: Cell, b: Cell) -> bool:
    """Whether two cells differ in the variant, or in a setting of their model."""
    settings = [{path: value for path, value in own.factors.items() if path.startswith("model.")} for own in (a, b)]
    return a.variant != b.variant or settings[0] != settings[1]


def _fixed(apart: Sequence[tuple[Cell, Cell]], tuned: Sequence[Cell], values: Values) -> list[Fixed]:
    """The cells whose learning rate was not chosen, by other cells or by the study's tuning."""
    chosen = {cell.id for cell in tuned}
    chosen |= {own.cell for own in values.plan.tunings if any("learning_rate" in path for path in own.scales)}
    cells = {cell.id: cell for pair in apart for cell in pair if cell.id not in chosen}
    return [Fixed(label(cell), values.plan.spec(cell).training.learning_rate) for cell in cells.values()]


def _unlike(apart: Sequence[tuple[Cell, Cell]], values: Values) -> list[Unlike]:
    """Of each size the two that differ most, if that is by more than `SIZE`."""
    found: dict[str, Unlike] = {}
    for pair in apart:
        sizes = [_sizes(cell, values) for cell in pair]
        for what in sizes[0]:
            (small, a), (large, b) = sorted((own[what], label(cell)) for own, cell in zip(sizes, pair, strict=True))
            share = large / small - 1
            if share > SIZE and (what not in found or share > found[what].share):
                found[what] = Unlike(what, a, b, (small, large), share)
    return list(found.values())


def _sizes(cell: Cell, values: Values) -> dict[Literal["width", "parameters", "training tokens"], float]:
    """Of a cell what is known of its size and its budget."""
    runs = values.completed(cell.id)
    return {
        "width": float(values.plan.spec(cell).model.d_model),
        "parameters": _mean(run.get("n_params") for run in runs),
        "training tokens": _mean(run.get("tokens") for run in runs),
    }


def _same_tokens(place: Place, values: Values) -> SameTokens | None:
    """Of a metric that is a mean over tokens or items, if they are few or their own error is known."""
    name, family = label(place.cell), place.metric.partition("/")[0]
    counts = [int(n) for run in values.completed(place.cell.id) if (n := run.get(f"{family}/tokens")) is not None]
    if metric(place.metric).table in ("runs", "curves") and counts and max(counts) < MANY:
        return SameTokens(name, place.metric, max(counts), None)
    own = values.sample_error(place)
    if own is None or (own.n is not None and own.n >= MANY):
        return None
    return SameTokens(name, place.metric, own.n, own.error)


def _constant(place: Place, places: Sequence[Place], values: Values) -> bool:
    """Whether no run of any of these cells has another value of a metric than the others of its cell."""
    alike = [values.of(own) for own in places if own.metric == place.metric]
    return is_count(place.metric) or all(len(own) > 1 and len(set(own.values())) == 1 for own in alike)


def _solved(places: Sequence[Place], opponents: Sequence[tuple[Place, Place]], values: Values) -> Solved | None:
    """Of a share of right answers, if the runs of a cell fall apart into those that solved a task and others."""
    shares = [(place, own) for place in places if (own := values.of(place)) and _is_share(place, own)]
    if not any(max(own.values()) >= SOLVED and min(own.values()) <= SOLVED - BELOW for _, own in shares):
        return None
    solved = {label(place.cell): {seed: value >= SOLVED for seed, value in own.items()} for place, own in shares}
    tested = []
    for a, b in dict.fromkeys((label(a.cell), label(b.cell)) for a, b in opponents if a.metric == b.metric):
        if a in solved and b in solved:
            apart = [solved[a][seed] for seed in solved[a].keys() & solved[b].keys() if solved[a][seed] != solved[b][seed]]
            tested.append((a, b, float(scipy.stats.binomtest(sum(apart), len(apart)).pvalue) if apart else 1.0))
    return Solved(shares[0][0].metric, {name: (sum(own.values()), len(own)) for name, own in solved.items()}, tested)


def _beyond(place: Place, values: Values) -> Beyond | None:
    trained = values.plan.spec(place.cell).training.sequence_length
    if place.at is None or place.at <= trained or not place.metric.startswith(CONTEXTS):
        return None
    there, own = (_mean(values.of(Place("", place.cell, CONTEXT, float(n))).values()) for n in (place.at, trained))
    if not there > (1 + MARGIN) * own:
        return None
    return Beyond(label(place.cell), int(place.at), trained, (there, own))


def _is_share(place: Place, values: dict[int, float]) -> bool:
    """Whether these are shares of which more is better."""
    own = metric(place.metric)
    return own.better == "higher" and not own.unit and all(0 <= value <= 1 for value in values.values())


def _versions(cells: list[Cell], values: Values) -> list[list[str]]:
    """The cells by the version, or versions, of the package that trained them, of which all are one whose modules are known."""
    found: dict[frozenset[tuple[str | None, ...]], list[str]] = {}
    for cell in cells:
        versions = {tuple(code(run).get(part) for part in PARTS) for run in values.completed(cell.id)}
        found.setdefault(frozenset(versions), []).append(label(cell))
    return list(found.values())
