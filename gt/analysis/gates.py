"""What a study's claims can show, asked before anything of it is trained.

Of each claim:

- the smallest effect that its seeds see with a power of 80 %, at the first step of Holm's procedure over its family, as its
  verdict will have it: from the spread of earlier records of like cells (`gt.analysis.earlier`), or the `sd` that it declares;
- the seeds that it needs for the least distance that it names: its margin or `by`, or half the width of its bounds. One that
  names none is fine: it says how small an effect it sees;
- whether it can fail at all: not if what it reads is counted on the model, or gave one number in all seeds of earlier records
  of the same cells; nor if it compares runs with themselves, has one seed, or a bound that no value of its metric is beyond;
- where it compares two variants by a metric of which one way is better, whether they differ in more than what it speaks of
  (`gt.analysis.controls`).

A claim that cannot fail, or cannot see its margin, is a fault: `gate: refuse` of its study ends planning with it, and it is not
registered unless the study says `gate: warn`. The rest is said.

Nothing here imports torch, except where `Sizes` may.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np

from gt import artefacts
from gt.analysis.aggregate import SIZES, label
from gt.analysis.claims import (
    Cell,
    Claims,
    Compare,
    Equivalence,
    Exists,
    Extrapolates,
    Interval,
    Place,
    Places,
    Predicate,
    RankCorrelation,
    Threshold,
    Trend,
    cells_of,
    check_planned,
    comparisons,
    load_arms,
    load_claims,
    title,
)
from gt.analysis.controls import Sizes, Unequal, unequal
from gt.analysis.earlier import Earlier, Read, Spread
from gt.analysis.laws import errors
from gt.analysis.statistics import detectable, narrowest, rank_correlation, seeds_needed, trend
from gt.analysis.values import is_count
from gt.artefacts import Looks, Plan
from gt.grouping import cohort_key
from gt.numbers import exponential
from gt.registry import metric as registered
from gt.registry import phrase
from gt.study import Study

# So many seeds a study can have.
MOST_SEEDS = 1000
# Of a cell: its seeds as its study has them written, and where.
Seeds = tuple[int | list[int] | dict[str, Any], str]
# Names of metrics whose values cannot leave these bounds. Losses that are differences, and shares of those, can.
BOUNDS: tuple[tuple[str, float, float], ...] = (
    (r"recall/.*/(accuracy|episodes|by_\w+|control|chance)", 0.0, 1.0),
    (r"needle/(exact|found)(/.*)?", 0.0, 1.0),
    (r"(initial/)?(softmax/(saturated|max_probability|entropy_ratio)|gate/outer_quarter|forward/finite)", 0.0, 1.0),
    (r"(initial/)?(branch/cosine|state/cosine/.*)|gradient/independence/.*|gate/advantage_correlation", -1.0, 1.0),
    (r"(initial/)?(variance|std|rms)/.*|(\w+/)?(loss|bits_per_byte|perplexity)|ngram/.*|grad_norm.*", 0.0, math.inf),
)
POSITIVE_UNITS = ("tokens/s", "tokens/$", "s", "bytes", "tokens", "floats", "FLOPs", "nats")


@dataclass(frozen=True)
class Fault:
    """Why a claim is not worth its runs. fix: what to write, and where."""

    kind: Literal["cannot fail", "cannot see"]
    why: str
    fix: str


@dataclass(frozen=True)
class Sight:
    """What the seeds of one predicate see; of several comparisons in it, of the one that varies most.

    words: what is compared. seeds: that its cells have in common. alpha: of the test. detectable, margin: distances on the
    scale, of a ratio as a share; None where no spread is known, or the claim names no distance. Of two bounds they are the
    least that these may be away from their middle, and half of what is between them. needed: the seeds for the margin; None too
    where more than 10,000 are. unknown: why a spread is not, where it is not.
    """

    words: str
    seeds: int
    alpha: float
    scale: Literal["value", "ratio", "correlation", "trend"]
    spread: Spread | None
    detectable: float | None = None
    margin: float | None = None
    needed: int | None = None
    unknown: str = "no record says how much its cells vary"

    @property
    def blind(self) -> bool:
        """Whether the margin is out of sight; of a trend, whether cells that all seeds have in order would be too few."""
        known = self.scale == "trend" or (self.spread is not None and self.margin is not None)
        return known and (self.needed is None or self.needed > self.seeds)


@dataclass(frozen=True)
class Gate:
    """What is known of a claim before its runs. place: of it in its file."""

    claim: str
    place: str
    sights: list[Sight]
    faults: list[Fault]
    unequal: list[Unequal]


@dataclass(frozen=True)
class Cost:
    """Of the runs that are not there yet. minutes: of the device, but for those of unknown speed. here: whether this machine
    has one of the kind. known, estimated, unknown: how many runs are of cells whose speed records have, how many speeds follow
    from FLOPs, and how many neither.
    """

    runs: int
    minutes: float
    device: str
    here: bool
    known: int
    estimated: int
    unknown: int


@dataclass(frozen=True)
class Outlook:
    """What is known of a study before its runs. refuses: whether it is not to be trained with a fault."""

    study: str
    refuses: bool
    gates: list[Gate]
    cost: Cost

    @property
    def faulty(self) -> list[Gate]:
        return [gate for gate in self.gates if gate.faults]


def outlook(study: Study, plan: Plan, folder: Path, todo: Iterable[str], gpus: int, torch: bool = False) -> Outlook:
    """folder: of the claims. todo: the runs that are to be trained. gpus: that a job has. torch: whether it may be imported.

    ConfigError for claims that could not be judged.
    """
    claims = load_claims(folder)
    check_planned(claims, load_arms(folder), {plan.study: plan})
    earlier = Earlier(study=plan.study)
    sizes = Sizes(earlier, torch=torch)
    found = Outlook(
        plan.study,
        study.file.gate == "refuse",
        gates(claims, plan, earlier, sizes, study.seeds_of),
        cost(plan, todo, earlier, sizes, gpus),
    )
    sizes.keep()
    return found


def foreseen(claims: Claims, plan: Plan) -> list[Gate]:
    """What could be said of the claims about a planned study before it ran, by themselves: whatever records there are."""
    nothing = Earlier(None)

    def seeds_of(cell: artefacts.Cell) -> Seeds:
        return ({"looks": plan.looks.looks} if plan.looks else len(cell.runs)), plan.study

    return gates(claims, plan, nothing, Sizes(nothing), seeds_of)


def gates(
    claims: Claims, plan: Plan, earlier: Earlier, sizes: Sizes, seeds_of: Callable[[artefacts.Cell], Seeds]
) -> list[Gate]:
    """The claims about a study, in the order of the files."""
    here = {name: claim for name, claim in claims.items() if claim.study == plan.study}
    families = Counter(claim.group for claim in here.values())
    return [_Gating(name, claims, plan, earlier, sizes, seeds_of, families[claim.group]).gate() for name, claim in here.items()]


def cost(plan: Plan, todo: Iterable[str], earlier: Earlier, sizes: Sizes, gpus: int) -> Cost:
    """What training these runs of a plan takes on the device of which records know most of its cells: where a job has a GPU,
    on a GPU, and else on a CPU, if records are of any.

    A cell without records takes what its FLOPs take at the median rate of all records, and no step less than any on record.
    """
    specs = {run: plan.runs[run] for run in todo}
    cohorts = {run: cohort_key(spec) for run, spec in specs.items()}
    by_device: dict[str, dict[str, list[float]]] = {}
    rates: dict[str, list[float]] = {}
    steps: dict[str, list[float]] = {}
    for spec, runs in groupby(earlier.trained, key=lambda own: own[0]):
        cohort = cohort_key(spec)
        for _, own in runs:
            by_device.setdefault(own.device, {}).setdefault(cohort, []).append(own.seconds)
            rates.setdefault(own.device, []).append(own.seconds / own.flops)
            steps.setdefault(own.device, []).append(own.seconds * spec.tokens / spec.training.steps)
    wanted = Counter(cohorts.values())
    if not by_device:
        return Cost(len(specs), 0.0, "", False, 0, 0, len(specs))

    def fits(name: str) -> tuple[bool, int, int, str]:
        return name.startswith("cuda") == (gpus > 0), sum(wanted[own] for own in by_device[name]), len(rates[name]), name

    device = max(by_device, key=fits)
    here = fits(device)[0]
    known = {cohort: median(own) for cohort, own in by_device[device].items()}
    seconds, estimated, unknown = 0.0, 0, 0
    for run, spec in specs.items():
        if cohorts[run] in known:
            seconds += known[cohorts[run]] * spec.tokens
        elif (size := sizes.of(spec)) is not None:
            seconds += max(median(rates[device]) * size.flops * spec.tokens, min(steps[device]) * spec.training.steps)
            estimated += 1
        else:
            unknown += 1
    return Cost(len(specs), seconds / 60, device, here, len(specs) - estimated - unknown, estimated, unknown)


class _Gating:
    """Of one claim."""

    def __init__(
        self,
        name: str,
        claims: Claims,
        plan: Plan,
        earlier: Earlier,
        sizes: Sizes,
        seeds_of: Callable[[artefacts.Cell], Seeds],
        family: int,
    ) -> None:
        self.name, self.claims, self.claim, self.plan = name, claims, claims[name], plan
        self.earlier, self.sizes, self.seeds_of = earlier, sizes, seeds_of
        self.alpha = self.claim.alpha / family
        self.places = Places(name, self.claim, {plan.study: plan})

    def gate(self) -> Gate:
        sights, faults, differing = [], [], []
        for i, predicate in enumerate(self.claim.predicate):
            if (fault := self._cannot_fail(i, predicate)) is not None:
                faults.append(fault)
                continue
            sight = self._sight(predicate)
            sights.append(sight)
            if (fault := self._cannot_see(i, predicate, sight)) is not None:
                faults.append(fault)
            elif sight.spread and sight.spread.sd == 0 and sight.spread.step == "same cells":
                faults.append(self._constant(i, f"all {sight.spread.seeds} seeds of {sight.spread.study} gave the same number"))
            differing += list(self._unequal(predicate))
        place = self.claims.place(self.name)
        return Gate(self.name, place, sights, list(dict.fromkeys(faults)), list(dict.fromkeys(differing)))

    def _find(self, cell: Cell, metric: str, besides: Place | None = None) -> Place:
        """besides: what a cell that others choose is compared with, and is taken not to be, where it can be another."""

        def choose(cells: list[artefacts.Cell], _: list[artefacts.Cell]) -> list[artefacts.Cell]:
            return sorted(cells, key=lambda own: besides is not None and own.id == besides.cell.id)[:1]

        place = self.places.find(cell, metric, choose)
        assert place is not None  # there is no arm
        return place

    def _pair(self, predicate: Predicate, a: Cell, b: Cell | None) -> tuple[Place, Place | None]:
        left = self._find(a, predicate.metric)
        if b is None:
            return left, None
        right = self._find(b, predicate.metric, left)
        return self._find(a, predicate.metric, right), right

    def _read(self, place: Place) -> Read:
        return Read(self.plan.spec(place.cell), place.metric, place.at)

    def _at(self, i: int, *keys: str) -> str:
        return self.claims.place(self.name, "predicate", i, *keys)

    # whether it can fail

    def _cannot_fail(self, i: int, predicate: Predicate) -> Fault | None:
        places = [self._find(*own) for own in cells_of(predicate)]
        if all(is_count(place.metric) for place in places):
            return self._constant(i, f"the {phrase(places[0].metric)} is counted on the model, the same in every seed")
        for a, b, *_ in comparisons(predicate):
            left, right = self._pair(predicate, a, b)
            if b is not None and right and (left.cell.runs, left.metric, left.at) == (right.cell.runs, right.metric, right.at):
                why = f"{title(a)} and {title(b)} share every run, so that they cannot differ"
                return Fault("cannot fail", why, f"{self._at(i)}: b: another cell, or another metric of it")
        return self._out_of_bounds(i, predicate)

    def _constant(self, i: int, why: str) -> Fault:
        return Fault("cannot fail", why, f"{self._at(i, 'metric')}: metric: one that training decides")

    def _out_of_bounds(self, i: int, predicate: Predicate) -> Fault | None:
        """A bound on one cell that all values of the metric are on one side of."""
        if not isinstance(predicate, Threshold | Interval) or predicate.b is not None:
            return None
        metric = predicate.a.metric or predicate.metric
        low, high = bounds(metric)
        if isinstance(predicate, Interval):
            asked, key = (predicate.low, predicate.high), "low"
        elif predicate.above is not None:
            asked, key = (predicate.above, math.inf), "above"
        else:
            asked, key = (-math.inf, float(predicate.below or 0.0)), "below"
        always, never = asked[0] <= low and asked[1] >= high, asked[1] <= low or asked[0] >= high
        if not always and not never:
            return None
        inside = f"between {low:g} and {high:g}" if math.isfinite(high) else f"never below {low:g}"
        why = f"the {phrase(metric)} is {inside}, so that this {'always' if always else 'never'} holds"
        return Fault(
            "cannot fail", why, f"{self._at(i, key)}: {key}: a bound that is {'inside' if math.isfinite(high) else 'above'}"
        )

    # what it can see

    def _sight(self, predicate: Predicate) -> Sight:
        """Of several comparisons the one that sees least."""
        if isinstance(predicate, Trend | RankCorrelation):
            return self._row(predicate)
        if isinstance(predicate, Extrapolates):
            return self._foretold(predicate)
        found = [self._compared(predicate, *own) for own in comparisons(predicate)]
        return max(found, key=lambda own: (own.blind, own.spread.sd if own.spread else math.inf))

    def _compared(self, predicate: Predicate, a: Cell, b: Cell | None, scale: str) -> Sight:
        log = b is not None and scale == "ratio"
        left, right = self._pair(predicate, a, b)
        spread = self._spread(self._read(left), self._read(right) if right else None, log)
        # One of several is enough, so that each is tested at a share of alpha.
        alpha = self.alpha / len(predicate.cells) if isinstance(predicate, Exists) else self.alpha
        seeds = _common([left, right] if right else [left], self.plan.looks)
        return self._seeing(predicate, _words(left, right, "/" if log else "−"), seeds, alpha, log, spread)

    def _foretold(self, predicate: Extrapolates) -> Sight:
        """Of what laws are off by, which depends on the rungs and the noise at each: it is known of the same cells alone."""
        seeds = _common([self._find(*own) for own in cells_of(predicate)], self.plan.looks)
        words = f"{predicate.metric}: {title(predicate.a)}, foretold"
        spread = Spread(self.claim.sd, "declared") if self.claim.sd is not None else self._of_laws(predicate)
        found = self._seeing(predicate, words, seeds, self.alpha, predicate.scale == "ratio", spread)
        return replace(found, unknown="no record has all its rungs, and no other ladder says how much its errors vary")

    def _of_laws(self, predicate: Extrapolates) -> Spread | None:
        arms = [predicate.at_rungs(arm) for arm in (predicate.a, predicate.b) if arm is not None]
        reads = [[self._read(self._find(cell, predicate.metric)) for cell in arm] for arm in arms]
        where, rows = self.earlier.table([read for arm in reads for read in arm])
        sizes = [[self.sizes.of(read.spec) for read in arm] for arm in reads]
        if not rows or any(size is None for arm in sizes for size in arm):
            return None
        parameters = np.array([[size.parameters for size in arm if size] for arm in sizes], dtype=float)
        losses = np.split(np.array(rows), len(arms), axis=1)
        try:
            off = [errors(*own, predicate.scale == "ratio") for own in zip(parameters, losses, strict=True)]
        except ValueError:  # as the claim itself will find
            return None
        apart = off[0] - off[1] if predicate.b else off[0]
        return Spread(float(np.std(apart, ddof=1)), "same cells", len(rows), 1, where)

    def _seeing(self, predicate: Predicate, words: str, seeds: int, alpha: float, log: bool, spread: Spread | None) -> Sight:
        """What so many seeds of a spread see of one comparison, with logarithms of ratios if `log`."""
        band, margin = _band(predicate, log), _margin(predicate, log)
        seen = needed = None
        if spread is not None:
            seen = (narrowest if band else detectable)(spread.sd, seeds, alpha)
            if band is not None:
                needed = seeds_needed(spread.sd, bounds=(*band, sum(band) / 2), alpha=alpha)
            elif margin is not None:
                needed = seeds_needed(spread.sd, difference=margin, alpha=alpha)
        if log:
            seen, margin = (None if own is None else exponential(own) - 1 for own in (seen, margin))
        return Sight(words, seeds, alpha, "ratio" if log else "value", spread, seen, margin, needed)

    def _spread(self, a: Read, b: Read | None, log: bool) -> Spread | None:
        if self.claim.sd is not None:
            return Spread(self.claim.sd, "declared")
        return self.earlier.spread(a, b, log)

    def _row(self, predicate: Trend | RankCorrelation) -> Sight:
        """Of many cells. How much ranks vary depends on how far cells are apart, so it is known of the same cells alone."""
        places = [self._find(cell, predicate.metric) for cell in predicate.cells]
        seeds, words = _common(places, self.plan.looks), f"{predicate.metric}: {len(places)} cells"
        if isinstance(predicate, Trend):
            return Sight(words, seeds, self.alpha, "trend", None, needed=_for_a_trend(len(places), self.alpha))
        spread = Spread(self.claim.sd, "declared") if self.claim.sd is not None else self._of_ranks(predicate, places)
        seen = detectable(spread.sd, seeds, self.alpha) if spread else None
        return Sight(words, seeds, self.alpha, "correlation", spread, seen)

    def _of_ranks(self, predicate: RankCorrelation, places: list[Place]) -> Spread | None:
        reads, partner = [self._read(place) for place in places], predicate.with_
        others = [Read(own.spec, partner, own.at) for own in reads] if isinstance(partner, str) else []
        where, rows = self.earlier.table([*reads, *others])
        own = [row[: len(reads)] for row in rows]
        other = [row[len(reads) :] for row in rows] if isinstance(partner, str) else [partner] * len(rows)
        try:
            found = rank_correlation(other, own, predicate.kind)
        except ValueError:  # there are none, or cells are tied
            return None
        return Spread(found.sd or 0.0, "same cells", len(own), 1, where)

    def _cannot_see(self, i: int, predicate: Predicate, sight: Sight) -> Fault | None:
        place = min((self._find(*own) for own in cells_of(predicate)), key=lambda own: len(own.cell.runs))
        if sight.seeds < 2:
            why = f"anything: its cells have {sight.seeds} seed{'' if sight.seeds == 1 else 's'} in common"
            return Fault("cannot see", why, self._seeds(place, max(sight.needed or 5, self.claim.seeds)))
        if not sight.blind:
            return None
        seen, margin = (shown(own, sight.scale) for own in (sight.detectable, sight.margin))
        why = f"its margin of {margin}: {sight.seeds} seeds see {seen}"
        if sight.scale == "trend":
            why = f"any trend: {sight.seeds} seeds that all have the cells in order do not reach {sight.alpha:.2g}"
        if sight.needed is None or sight.needed > MOST_SEEDS:
            return Fault("cannot see", why, f"{self._at(i)}: a margin of {seen}")
        return Fault("cannot see", why, self._seeds(place, sight.needed))

    def _seeds(self, place: Place, needed: int) -> str:
        """Where the study says how many seeds a cell has, and the line to write."""
        written, where = self.seeds_of(place.cell)
        if isinstance(written, list):
            after = max(written) + 1
            return f"{where}: seeds: {[*written, *range(after, after + needed - len(written))]}"
        if isinstance(written, dict):
            *looks, last = written["looks"]
            return f"{where}: seeds: {{looks: {[*looks, max(last, needed)]}}}"
        return f"{where}: seeds: {needed}"

    # what it compares

    def _unequal(self, predicate: Predicate) -> Iterator[Unequal]:
        for a, b, *_ in comparisons(predicate):
            left, right = self._pair(predicate, a, b)
            if b is None or right is None or left.cell.variant == right.cell.variant or registered(left.metric).better is None:
                continue
            chosen = {own.cell for own in self.plan.tunings}
            tuned = tuple(cell.tuned_by is not None or own.cell.id in chosen for cell, own in ((a, left), (b, right)))
            yield from unequal(left.cell, right.cell, (tuned[0], tuned[1]), self.plan, self.sizes)


def _words(a: Place, b: Place | None, sign: str) -> str:
    """What is compared: what is the same of both stands once."""
    left, right = (own.metric + ("" if own.at is None else f" at {own.at:g}") for own in (a, b or a))
    first, second = (label(own.cell) for own in (a, b or a))
    if b is not None and first == second and a.cell.id != b.cell.id:
        first, second = a.cell.id, b.cell.id
    if b is None:
        return f"{left}: {first}"
    if left == right:
        return f"{left}: {first} {sign} {second}"
    return f"{left} {sign} {right}: {first}" if first == second else f"{left} ({first}) {sign} {right} ({second})"


def _for_a_trend(cells: int, alpha: float) -> int | None:
    """The least number of seeds that decide where all have the cells in order, by Page's test."""
    order = list(range(1, cells + 1))
    return next((n for n in range(2, 50) if 2 * trend(order, [order] * n).p_rising < alpha), None)


def _common(places: list[Place], looks: Looks | None) -> int:
    """The number of seeds that cells may have in common, but for those of which only what is counted is read.

    What is decided by all looks is about what one test of the last one's seeds decides.
    """
    trained = [set(place.cell.runs) for place in places if not is_count(place.metric)]
    if looks is not None:
        first, last = set(range(looks.looks[0])), set(range(looks.looks[-1]))
        trained = [own | last if first <= own else own for own in trained]
    return len(set.intersection(*trained)) if trained else 1


def _margin(predicate: Predicate, log: bool) -> float | None:
    """The least distance that a predicate names, as its test has it: of bounds, half of what is between them."""
    if (band := _band(predicate, log)) is not None:
        return (band[1] - band[0]) / 2
    if not isinstance(predicate, Compare | Exists):
        return None
    margin = predicate.margin if isinstance(predicate, Compare) else None
    least = min((own for own in (predicate.by, margin) if own), default=None)
    return least if least is None or not log else math.log(1 + least)


def _band(predicate: Predicate, log: bool) -> tuple[float, float] | None:
    """The two bounds between which a predicate wants a value, as its test has them."""
    match predicate:
        case Equivalence() | Extrapolates():
            m = predicate.margin
            return (math.log(1 - m), math.log(1 + m)) if log else (-m, m)
        case Interval() if not log:
            return predicate.low, predicate.high
        case Interval() if predicate.low > 0:
            return math.log(predicate.low), math.log(predicate.high)
    return None


def bounds(metric: str) -> tuple[float, float]:
    """Those that no value of a metric can leave, as far as it is known."""
    for pattern, low, high in BOUNDS:
        if re.fullmatch(pattern, metric):
            return low, high
    if is_count(metric) or registered(metric).unit in POSITIVE_UNITS or metric in SIZES:
        return 0.0, math.inf
    return -math.inf, math.inf


def shown(value: float | None, scale: str) -> str:
    """A distance in words."""
    if value is None:
        return ""
    return f"{value:.2%}".replace("%", " %") if scale == "ratio" else f"{value:.3g}"
