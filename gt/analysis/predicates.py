"""The predicates of claims against the seeds: what was estimated, and how surely it holds or does not.

A predicate gives two p values: that it holds (`p_support`) and that it does not (`p_refute`), each at most alpha where the
opposite is true. Where several must all hold, p_support is the largest (an intersection-union test, Berger 1982) and p_refute
the smallest times their number (Bonferroni); where one of several is enough it is the other way round.

How one fails is said of sizes, and a size is the distance from no difference: from 0, or from a ratio of 1, and of a number
that is compared with no other from 0. A predicate claims a region of values (`Region`), and one that lies outside is

    opposite              on the other side of no difference than all that is claimed. Where the region begins at no difference
                          (a is lower than b, a trend rises) whatever fails is that; where it begins further out (lower by at
                          least 0.1) it takes a test of its own, `p_opposite`
    smaller than claimed  not shown to be opposite, and nearer to no difference than all that is claimed
    larger than claimed   further from it: beyond the far end of an interval, or outside of what was claimed to be the same, or
                          not much worse

Where there are several, the word is that of the one that decides: of those that must all hold, the one that fails most surely;
where one is enough, the one that fails least surely, and `opposite` where all are.

A run that diverged has no numbers, and is never left out unsaid. How it counts is the claim's word, else the study's:
    worst_rank  (the default) as worse than any that did not, in the metric's direction: signed ranks take the place of the
                t-test, and the median that of the mean
    excluded    not at all: its seed is left out of all that it would be compared with, which a caution says
    failure     its cell fails: it is the worse one whatever its other runs gave, without a test
`Uncounted` where a metric has no direction, or a test no such form.

What no seed changes (a count, cells of the same runs, a score of 0 in all) is a constant, and has no p: nothing in it is left
to chance, and it is as claimed or not. Where several must all hold, a constant part that does is asked no more, and one that
does not leaves nothing to ask; where one is enough it is the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from statistics import median
from typing import Any, Literal

import numpy as np

from gt import artefacts
from gt.analysis.aggregate import MARGIN, label
from gt.analysis.at_looks import at_looks, hope
from gt.analysis.cautions import LOSSES
from gt.analysis.claims import (
    Cell,
    Claim,
    Compare,
    Equivalence,
    Exists,
    Extrapolates,
    Interval,
    Order,
    Place,
    Places,
    Predicate,
    RankCorrelation,
    Threshold,
    Trend,
    cells_of,
    comparisons,
    on,
    title,
)
from gt.analysis.laws import errors
from gt.analysis.sequential import Design
from gt.analysis.statistics import (
    EXACT_SEEDS,
    Estimate,
    beyond,
    bootstrap_interval,
    constant,
    detectable,
    mean_interval,
    rank_correlation,
    seeds_needed,
    sign_flip_p,
    signed_ranks,
    trend,
    within,
)
from gt.analysis.values import Values, is_count, mixers_of
from gt.numbers import exponential
from gt.registry import metric as registered
from gt.registry import phrase
from gt.spec import Diverged

# What runs that diverged are in the words of a test.
COUNTED = {"worst_rank": "runs diverged, which rank as the worst", "failure": "runs diverged, with which a cell fails"}


# How a predicate fails.
Miss = Literal["opposite", "smaller than claimed", "larger than claimed"]


@dataclass(frozen=True)
class Region:
    """The values that a predicate claims, on its own scale, from low to high. neutral: no difference, 0 or a ratio of 1."""

    low: float
    high: float
    neutral: float = 0.0

    @property
    def other_side(self) -> Literal["below", "above"] | None:
        """The side of no difference on which nothing is claimed; None where no difference is claimed as well."""
        return "below" if self.low >= self.neutral else "above" if self.high <= self.neutral else None

    @property
    def begins_at_neutral(self) -> bool:
        return self.neutral in (self.low, self.high)

    def missed(self, value: float) -> Miss:
        """What a value outside is, if it takes no test of its own to be the opposite."""
        match self.other_side:
            case None:
                return "larger than claimed"
            case "below":
                further = value > self.high
            case "above":
                further = value < self.low
        if further:
            return "larger than claimed"
        return "opposite" if self.begins_at_neutral else "smaller than claimed"


def region(predicate: Predicate) -> Region:
    """What a predicate claims. Of a trend it is the slope, of an order the difference of each cell to the next."""
    match predicate:
        case Compare() | Exists():
            neutral = 1.0 if predicate.scale == "ratio" else 0.0
            if predicate.is_ == "lower":
                return Region(-math.inf, neutral - predicate.by, neutral)
            return Region(neutral + predicate.by, math.inf, neutral)
        case Order() | Trend():
            above = (predicate.is_ == "rising") == isinstance(predicate, Trend)
            return Region(0.0, math.inf) if above else Region(-math.inf, 0.0)
        case Equivalence() | Extrapolates():
            neutral = 1.0 if predicate.scale == "ratio" else 0.0
            return Region(neutral - predicate.margin, neutral + predicate.margin, neutral)
        case Interval():
            return Region(predicate.low, predicate.high, _neutral(predicate))
        case Threshold():
            return _half_line(predicate, _neutral(predicate))
        case RankCorrelation():
            return _half_line(predicate, 0.0)


def _neutral(predicate: Interval | Threshold) -> float:
    return 1.0 if predicate.b is not None and predicate.scale == "ratio" else 0.0


def _half_line(predicate: Threshold | RankCorrelation, neutral: float) -> Region:
    low = -math.inf if predicate.above is None else predicate.above
    return Region(low, math.inf if predicate.below is None else predicate.below, neutral)


class Undecidable(Exception):  # noqa: N818 - not an error
    """Why the numbers there are admit no test."""


class NotMeasured(Undecidable):
    """A cell's runs are measured, and what is asked for is not among their measures: the model has no such thing."""


class Uncounted(Undecidable):
    """A run diverged that the claim reads, and it cannot count as the worst here."""


@dataclass(frozen=True)
class Test:
    """One predicate against the seeds.

    words: what is compared, in a sentence. estimate, lower, upper: mean over seeds and its 95 % interval on the predicate's
    scale (of a ratio, the geometric mean), or their median without an interval where runs diverged, None where that is such a
    run; bootstrap: the same by BCa from 10 seeds on. by_seed: the value of each seed that has one.
    detectable: the smallest distance from the bound that these seeds see with a power of 80 %, for a ratio as a share.
    needed: how many seeds would decide it if the truth were as estimated, or off by the margin if that is more.
    p_sign_flip: the exact test beside a t-test against zero. outside: the side of two bounds on which the mean is.
    misses: how it fails, if it does; p_opposite: that it is the opposite, where that takes a test of its own.
    parts: where several are joined, the values by seed of each, names: their words, and part: which of them is shown; joined:
    how many of them must hold, in words. note: how runs that diverged count, and which.
    constant: of what no seed changes, whether it is as claimed; its p are not numbers.
    joint: whether the p are of t-tests, of which is known how they go together at several looks. hope: how likely all seeds of
    the looks to come find that it holds, and that it does not (or is equivalent); None where that is not known.
    """

    words: str
    n: int
    scale: str
    estimate: float | None
    lower: float | None
    upper: float | None
    p_support: float
    p_refute: float
    p_equivalent: float | None = None
    p_sign_flip: float | None = None
    detectable: float | None = None
    needed: int | None = None
    bootstrap: tuple[float, float] | None = None
    outside: Literal["below", "", "above"] = ""
    by_seed: dict[int, float] = field(default_factory=dict)
    misses: Miss = "opposite"
    p_opposite: float | None = None
    parts: list[dict[int, float]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    part: int = 0
    constant: bool | None = None
    joint: bool = False
    hope: tuple[float, float] | None = None
    joined: str = ""
    note: str = ""


class Judge:
    """Judges the predicates of one claim under one arm. diverged: how runs that diverged count.

    least: the seeds that each cell must have. design: of the looks, if this is at one, and earlier: the judges at those before.
    """

    def __init__(
        self,
        places: Places,
        claim: Claim,
        values: Values,
        alpha: float,
        diverged: Diverged,
        least: int | None = None,
        design: Design | None = None,
        earlier: Sequence[Judge] = (),
    ) -> None:
        self.places, self.claim, self.values, self.alpha, self.diverged = places, claim, values, alpha, diverged
        self.least, self.design, self.earlier = least or claim.seeds, design, earlier

    def excluding(self) -> Judge:
        """The same where runs that diverged do not count at all."""
        earlier = [judge.excluding() for judge in self.earlier]
        return Judge(self.places, self.claim, self.values, self.alpha, "excluded", self.least, self.design, earlier)

    def place(self, cell: Cell, metric: str) -> Place | None:
        return self.places.find(cell, metric, self.values.best)

    def read(self, cell: Cell, metric: str) -> dict[int, float]:
        place = self.place(cell, metric)
        if place is None:
            raise Undecidable(f"the arm has no cell for {title(cell)}")
        found = self.values.of(place)
        lost = [] if is_count(place.metric) else self.values.diverged(place.cell)
        self._survivors(place)
        if not found and (not lost or self.values.completed(place.cell.id)):
            raise NotMeasured(f"{place.cell.id} has no {self.phrase(place.metric)}")
        if not lost or self.diverged == "excluded":
            return found
        worst = self._worst(place)
        failed = found if self.diverged == "failure" else {}
        return dict(sorted({**found, **dict.fromkeys([*lost, *failed], worst)}.items()))

    def _worst(self, place: Place) -> float:
        """What counts as worse than any number of a metric. Uncounted where neither way is."""
        match registered(place.metric).better:
            case "lower":
                return math.inf
            case "higher":
                return -math.inf
            case _:
                raise self._uncounted([place], f"{self.phrase(place.metric)} has no worst value")

    def _uncounted(self, places: Sequence[Place | None], why: str) -> Uncounted:
        lost = {place.cell.id: seeds for place in places if place and (seeds := self.values.diverged(place.cell))}
        said = " and ".join(f"{seeds_of(seeds)} of {cell} diverged" for cell, seeds in lost.items())
        return Uncounted(f"{said}, which cannot count as the worst: {why}")

    def _survivors(self, place: Place) -> None:
        """Undecidable where seeds that diverged are excluded and too few are left: those that did not would speak for all."""
        if self.diverged != "excluded":
            return
        statuses = self.values.statuses(place.cell)
        diverged = [str(seed) for seed, status in statuses.items() if status == "diverged"]
        least = 1 if is_count(place.metric) else self.claim.seeds
        if diverged and (completed := list(statuses.values()).count("completed")) < least:
            lost = f"{len(diverged)} of {len(statuses)} seeds of {place.cell.id} diverged ({', '.join(diverged)})"
            raise Undecidable(f"{lost}; {completed} completed, and a verdict needs {least}")

    def _together(self, seeds: Sequence[int], places: Sequence[Place | None]) -> None:
        """The same of the seeds that several cells have in common: each may have enough, and lack other ones."""
        if self.diverged != "excluded":
            return
        diverged = [
            place.cell.id
            for place in places
            if place and not is_count(place.metric) and "diverged" in self.values.statuses(place.cell).values()
        ]
        if diverged and len(seeds) < self.claim.seeds:
            of = f"seeds of {', '.join(diverged)} diverged"
            raise Undecidable(f"{of}; {len(seeds)} completed in all cells, and a verdict needs {self.claim.seeds}")

    @cached_property
    def mixers(self) -> dict[str, str]:
        """By letter the mixers that all of the claim's models have."""
        return mixers_of(self.values.plan, [place.cell for place in self.places_read()])

    def phrase(self, metric: str) -> str:
        """What a metric is called in a sentence about the claim's models."""
        return phrase(metric, self.mixers)

    def name(self, cell: Cell) -> str:
        place = self.place(cell, "val/loss")
        own = label(place.cell) if place else title(cell)
        return own + on(cell) + (f" at {cell.at:g}" if cell.at is not None else "")

    def compared(self) -> list[list[Place]]:
        """What each predicate of the claim reads."""
        pairs = [list(cells_of(predicate)) for predicate in self.claim.predicate]
        return [[place for cell, metric in own if (place := self.place(cell, metric)) is not None] for own in pairs]

    def places_read(self) -> list[Place]:
        """All that the claim reads."""
        return [place for places in self.compared() for place in places]

    def pairs(self) -> list[tuple[Place, Place, float]]:
        """What is compared without a least difference, and the share within which they would count as the same: the claim's own
        margin, or that of contrasts where it has none. One in units of the metric is no share.
        """
        found: list[tuple[Place, Place, float]] = []
        for own in self.claim.predicate:
            if isinstance(own, Compare) and own.by == 0 and (own.margin is None or own.scale == "ratio"):
                a, others = self.place(own.a, own.metric), own.b if isinstance(own.b, list) else [own.b]
                places = [place for b in others if (place := self.place(b, own.metric)) is not None]
                found += [(a, place, own.margin or MARGIN) for place in places if a is not None]
        return found

    def margin(self) -> float | None:
        """The difference that would not matter to a claim that two cells differ: its own, or that of contrasts, of losses."""
        first = self.claim.predicate[0]
        if len(self.claim.predicate) > 1 or not isinstance(first, Compare):
            return None
        if isinstance(first.b, list) and len(first.b) > 1:
            return None
        read = {metric for _, metric in cells_of(first)}
        return first.margin or (MARGIN if first.by == 0 and len(read) == 1 and read <= {*LOSSES} else None)

    def alike(self, predicate: Compare, b: Cell) -> float | None:
        """p that two losses are within the margin of contrasts of each other; None where one diverged that counts, or is 0."""
        try:
            _, ratios, _ = self.contrast(predicate.metric, predicate.a, b, "ratio")
        except Undecidable:
            return None
        z = list(ratios.values())
        return within(z, math.log(1 - MARGIN), math.log(1 + MARGIN)) if all(map(math.isfinite, z)) else None

    def opponents(self) -> list[tuple[Place, Place]]:
        """All that is compared, two by two."""
        found = []
        for own in self.claim.predicate:
            match own:
                case Trend() | RankCorrelation():
                    pairs = list(combinations(own.cells, 2))
                case Extrapolates():
                    pairs = list(zip(own.at_rungs(own.a), own.at_rungs(own.b), strict=True)) if own.b else []
                case _:
                    pairs = [(a, b) for a, b, _ in comparisons(own) if b is not None]
            for a, b in pairs:
                left, right = (self.place(cell, cell.metric or own.metric) for cell in (a, b))
                if left is not None and right is not None:
                    found.append((left, right))
        return found

    def tuned(self) -> list[tuple[artefacts.Cell, list[artefacts.Cell]]]:
        """The cells that others chose, each with those that chose it."""
        pairs = [(cell, metric) for predicate in self.claim.predicate for cell, metric in cells_of(predicate) if cell.tuned_by]
        found = [(self.place(cell, metric), self.places.tuning(cell)) for cell, metric in pairs]
        return [(place.cell, tuning) for place, tuning in found if place is not None]

    def missing(self) -> list[str]:
        """The cells of which not enough seeds have been run, or not the metric measured; those that tune need all of theirs."""
        cells = [cell for predicate in self.claim.predicate for cell, _ in cells_of(predicate)]
        tuning = [(own.id, list(self.values.statuses(own).values())) for cell in cells for own in self.places.tuning(cell)]
        run = [(cell, sum(own in ("completed", "diverged") for own in statuses), len(statuses)) for cell, statuses in tuning]
        found = [f"{cell}: {done} of {planned} seeds" for cell, done, planned in run if done < planned]
        for place in self.places_read():
            statuses = list(self.values.statuses(place.cell).values())
            done, completed = statuses.count("completed") + statuses.count("diverged"), statuses.count("completed")
            if done < self.least:
                found.append(f"{place.cell.id}: {done} of {self.least} seeds")
            elif (have := len(self.values.of(place))) < min(self.claim.seeds, completed) and self.values.unmeasured(place):
                found.append(f"{place.cell.id}: {have} of {self.claim.seeds} seeds with {self.phrase(place.metric)}")
        return list(dict.fromkeys(found))

    def test(self, predicate: Predicate) -> Test:
        claimed = region(predicate)
        match predicate:
            case Compare():
                others = predicate.b if isinstance(predicate.b, list) else [predicate.b]
                margin = predicate.margin
                tests = [self._half_line(predicate.metric, predicate.a, b, predicate.scale, claimed, margin) for b in others]
                if self.margin() is not None and margin is None:
                    tests = [replace(test, p_equivalent=self.alike(predicate, others[0])) for test in tests]
                return all_of(tests)
            case Exists():
                metric, scale = predicate.metric, predicate.scale
                return one_of(
                    [all_of([self._half_line(metric, a, b, scale, claimed) for b in predicate.b]) for a in predicate.cells]
                )
            case Order():
                steps = zip(predicate.cells, predicate.cells[1:], strict=False)
                return all_of([self._half_line(predicate.metric, a, b, "difference", claimed) for a, b in steps])
            case Equivalence() | Interval():
                metric, a, b, scale = predicate.metric, predicate.a, predicate.b, predicate.scale
                return self._at_looks(lambda judge: judge.interval(metric, a, b, scale, claimed), claimed)
            case Threshold():
                return self._half_line(predicate.metric, predicate.a, predicate.b, predicate.scale, claimed)
            case Trend():
                return self._at_looks(lambda judge: judge.trend(predicate), claimed)
            case RankCorrelation():
                return self._at_looks(lambda judge: judge.ranks(predicate), claimed)
            case Extrapolates():
                return self._at_looks(lambda judge: judge.extrapolates(predicate), claimed)

    def _half_line(
        self, metric: str, a: Cell, b: Cell | None, scale: str, claimed: Region, margin: float | None = None
    ) -> Test:
        return self._at_looks(lambda judge: judge.half_line(metric, a, b, scale, claimed, margin), claimed, margin)

    def _at_looks(self, test: Callable[[Judge], Test], claimed: Region, margin: float | None = None) -> Test:
        """A test at the look that this is, if it is at one. margin: that it also asks for equivalence within."""
        if self.design is None:
            return test(self)
        last = test(self)
        if last.constant is not None:
            return last
        found: list[Test | None] = []
        for judge in self.earlier:
            try:
                before = test(judge)
                found.append(before if before.constant is None else None)
            except Undecidable:
                found.append(None)
        both_sides = math.isfinite(claimed.low) and math.isfinite(claimed.high)
        last = at_looks([*found, last], self.design, both_sides)
        return replace(last, hope=hope(last, self.design, claimed.low, claimed.high, margin, self.alpha))

    def contrast(self, metric: str, a: Cell, b: Cell | None, scale: str) -> tuple[str, dict[int, float], bool]:
        """What is compared in words, its value by seed, and whether these are logarithms: of a, a - b, or a / b.

        It is infinite where a run diverged that counts as the worst, and that of no difference where both did.
        """
        left = self.read(a, metric)
        first, second = a.metric or metric, (b.metric or metric) if b else ""
        if b is None:
            return f"{self.phrase(first)}: {self.name(a)}", left, False
        right = self.read(b, metric)
        seeds = sorted(set(left) & set(right))
        self._together(seeds, [self.place(a, first), self.place(b, second)])
        sign = "/" if scale == "ratio" else "−"
        joined = _side_by_side((self.phrase(first), self.name(a)), sign, (self.phrase(second), self.name(b)))
        if self.diverged == "failure" and all(map(math.isinf, [*left.values(), *right.values()])):
            raise Undecidable(f"{joined}: runs of both diverged")
        finite = [seed for seed in seeds if math.isfinite(left[seed]) and math.isfinite(right[seed])]
        log = scale == "ratio"
        if log and any(left[seed] <= 0 or right[seed] <= 0 for seed in finite):
            raise Undecidable(f"{joined}: a ratio of numbers that are not all above zero")
        values = {seed: math.log(left[seed] / right[seed]) if log else left[seed] - right[seed] for seed in finite}
        for seed in [seed for seed in seeds if seed not in values]:
            if left[seed] == -right[seed]:
                raise self._uncounted([self.place(a, first), self.place(b, second)], "what is worse differs between the two")
            values[seed] = 0.0 if left[seed] == right[seed] else left[seed] - right[seed]
        return joined, dict(sorted(values.items())), log

    def half_line(self, metric: str, a: Cell, b: Cell | None, scale: str, claimed: Region, margin: float | None = None) -> Test:
        """Two-sided t-test of the mean against a bound; the side on which the mean lies says which way p speaks."""
        words, values, log = self.contrast(metric, a, b, scale)
        above = math.isinf(claimed.high)
        bound = claimed.low if above else claimed.high
        places = [self.place(cell, cell.metric or metric) for cell in (a, b) if cell is not None]
        said = f"{words} {'>' if above else '<'} {_bound(bound)}"
        if self._is_constant(list(values.values()), places):
            return _constant(said, values, log, claimed)
        z, limit = _enough(values, words), math.log(bound) if log else bound
        if self._counted(places):
            if self.diverged == "failure":
                up, down = (0.0, 1.0) if z[0] > 0 else (1.0, 0.0)
            elif margin is not None:
                raise self._uncounted(places, "no rank lies within a margin")
            else:
                up, down = (min(1.0, 2 * p) for p in signed_ranks(z, limit))
            return self.diverging(said, values, log, places, claimed, up if above else down, down if above else up)
        up, down = (min(1.0, 2 * p) for p in (_p(beyond(z, limit, "above")), _p(beyond(z, limit, "below"))))
        equivalent, least = None, abs(float(np.mean(z)) - limit)
        if margin is not None:
            low, high = (math.log(1 - margin), math.log(1 + margin)) if log else (-margin, margin)
            equivalent, least = within(z, low, high), max(least, high)
        e = mean_interval(z)
        sd = e.sd or 0.0
        seen = detectable(sd, len(z), self.alpha)
        return _test(
            said,
            values,
            log,
            e,
            claimed,
            p_support=up if above else down,
            p_refute=down if above else up,
            p_equivalent=equivalent,
            joint=True,
            p_sign_flip=sign_flip_p(z) if limit == 0 and len(z) <= EXACT_SEEDS else None,
            detectable=exponential(seen) - 1 if log and seen is not None else seen,
            needed=seeds_needed(sd, difference=least, alpha=self.alpha),
        )

    def interval(self, metric: str, a: Cell, b: Cell | None, scale: str, claimed: Region) -> Test:
        """TOST that the mean is between two bounds, and a two-sided t-test that it is beyond the one that it is nearest to."""
        words, values, log = self.contrast(metric, a, b, scale)
        said = f"{words} between {_bound(claimed.low)} and {_bound(claimed.high)}"
        places = [self.place(cell, cell.metric or metric) for cell in (a, b) if cell is not None]
        if self._is_constant(list(values.values()), places):
            return _constant(said, values, log, claimed)
        _enough(values, words)
        if self._counted(places):
            if self.diverged != "failure":
                raise self._uncounted(places, "no rank lies between bounds")
            return self.diverging(said, values, log, places, claimed, 1.0, 0.0)
        return self.between(said, values, log, claimed)

    def between(self, said: str, values: dict[int, float], log: bool, claimed: Region) -> Test:
        """The same of values by seed, which are logarithms of ratios if `log`."""
        z, low, high = list(values.values()), claimed.low, claimed.high
        bottom, top = (math.log(low) if low > 0 else -math.inf, math.log(high)) if log else (low, high)
        outside = min(_p(beyond(z, bottom, "below")) if math.isfinite(bottom) else 1.0, _p(beyond(z, top, "above")))
        inside = within(z, bottom, top) if math.isfinite(bottom) else beyond(z, top, "below")
        e = mean_interval(z)
        mean, sd = float(np.mean(z)), e.sd or 0.0
        if bottom < mean < top and math.isfinite(bottom):
            needed = seeds_needed(sd, bounds=(bottom, top, mean), alpha=self.alpha)
        else:
            needed = seeds_needed(sd, difference=min(abs(mean - bottom), abs(mean - top)), alpha=self.alpha)
        seen = detectable(sd, len(z), self.alpha)
        return _test(
            said,
            values,
            log,
            e,
            claimed,
            joint=True,
            p_support=_p(inside),
            p_refute=min(1.0, 2 * outside),
            outside="below" if mean < bottom else "above" if mean > top else "",
            detectable=exponential(seen) - 1 if log and seen is not None else seen,
            needed=needed,
        )

    def extrapolates(self, predicate: Extrapolates) -> Test:
        """Each seed's own law of the smaller rungs, against what the seed has at the last: one error a seed.

        Of a the predicted over the measured, or less it; with b the predicted ratio, or difference, against the measured.
        """
        log = predicate.scale == "ratio"
        places = [self.place(cell, metric) for cell, metric in cells_of(predicate)]
        if self._counted(places):
            raise self._uncounted(places, "a law has no place for it")
        arms = [arm for arm in (predicate.a, predicate.b) if arm is not None]
        off = [self._errors(predicate, arm, log) for arm in arms]
        seeds = sorted(set.intersection(*map(set, off)))
        self._together(seeds, places)
        values = {seed: off[0][seed] - (off[1][seed] if predicate.b else 0.0) for seed in seeds}
        ((path, sizes),) = predicate.rungs.items()
        names = (" / " if log else " − ").join(title(arm) + on(arm) for arm in arms)
        what = f"{self.phrase(predicate.metric)}: {names if predicate.b is None else f'({names})'} at {path}={sizes[-1]}"
        words = f"{what}, foretold by the law of the {len(sizes) - 1} rungs before {'/' if log else '−'} measured"
        _enough(values, words)
        claimed = region(predicate)
        said = f"{words}, between {_bound(claimed.low)} and {_bound(claimed.high)}"
        if self._is_constant(list(values.values()), places):
            return _constant(said, values, log, claimed)
        return self.between(said, values, log, claimed)

    def _errors(self, predicate: Extrapolates, arm: Cell, log: bool) -> dict[int, float]:
        """By seed what the law of an arm's smaller rungs says of the last, less what is there; of logarithms if `log`."""
        cells = predicate.at_rungs(arm)
        read = [self.read(cell, predicate.metric) for cell in cells]
        sizes = np.array([self._size(cell, predicate.metric) for cell in cells])
        seeds = sorted(set.intersection(*map(set, read)))
        losses = np.array([[own[seed] for own in read] for seed in seeds])
        with suppress(ValueError):
            return dict(zip(seeds, errors(sizes, losses, log).tolist(), strict=True))
        needed = f"parameters must rise from rung to rung, and {self.phrase(predicate.metric)} be above 0"
        raise Undecidable(f"{title(arm)}, {len(seeds)} seeds in common: {needed}")

    def _size(self, cell: Cell, metric: str) -> float:
        """The parameters without embeddings of a cell's models; not a number where that is not known."""
        place = self.place(cell, metric)
        counts = self.values.of(replace(place, metric="n_params_non_embedding", at=None)) if place else {}
        return next(iter(counts.values()), math.nan)

    def _is_constant(self, values: Sequence[float], places: Sequence[Place | None]) -> bool:
        """Whether no seed changes what is tested: none that ran, or none that could, of what is counted on a model."""
        counts = len(values) == 1 and all(place is None or is_count(place.metric) for place in places)
        return (counts or constant(values)) and not self._counted(places)

    def _counted(self, places: Sequence[Place | None]) -> str:
        """The cells of which runs diverged that count, with their seeds, and as what; empty without any."""
        lost: dict[str, list[int]] = {}
        for place in places if self.diverged != "excluded" else ():
            if place is not None and not is_count(place.metric) and (seeds := self.values.diverged(place.cell)):
                lost[place.cell.id] = seeds
        cells = "; ".join(f"{cell}, {seeds_of(seeds)}" for cell, seeds in lost.items())
        return f"{COUNTED[self.diverged]}: {cells}" if lost else ""

    def diverging(
        self,
        words: str,
        values: dict[int, float],
        log: bool,
        places: Sequence[Place | None],
        claimed: Region,
        p_support: float,
        p_refute: float,
    ) -> Test:
        """A test of values of which some are infinite, for their runs diverged: what is shown of them is the median.

        That a cell is on the other side of no difference is for two cells to say: what is infinite of one alone is a rank.
        """
        finite = {seed: exponential(value) if log else value for seed, value in values.items() if math.isfinite(value)}
        middle = median(values.values())
        estimate = None if not math.isfinite(middle) else exponential(middle) if log else middle
        how = "without a test" if self.diverged == "failure" else "the median, by signed ranks"
        opposite = None
        if len(places) > 1 and (side := claimed.other_side) and not claimed.begins_at_neutral:
            above, below = signed_ranks(list(values.values()))
            opposite = min(1.0, 2 * (above if side == "above" else below))
            if self.diverged == "failure":
                opposite = 0.0 if (middle > 0) == (side == "above") else 1.0
        misses = claimed.missed(exponential(middle) if log else middle)
        scale = "ratio" if log else "value"
        return Test(
            *(words, len(values), scale, estimate, None, None, p_support, p_refute),
            by_seed=finite,
            misses=misses,
            p_opposite=opposite,
            note=f"{how}: {self._counted(places)}",
        )

    def rows(self, predicate: Trend | RankCorrelation, metric: str) -> tuple[list[int], np.ndarray, list[int]]:
        """Which of the cells there are (an arm may not have all), their values (seeds, cells), and the seeds they share."""
        there = [i for i, cell in enumerate(predicate.cells) if self.place(cell, metric) is not None]
        read = [self.read(predicate.cells[i], metric) for i in there]
        seeds = sorted(set.intersection(*(set(own) for own in read))) if read else []
        self._together(seeds, [self.place(predicate.cells[i], metric) for i in there])
        least = 1 if all(is_count(predicate.cells[i].metric or metric) for i in there) else 2
        if len(there) < 3 or len(seeds) < least:
            raise Undecidable(f"{len(there)} cells with {len(seeds)} seeds in common; three and two are needed")
        return there, np.array([[own[seed] for own in read] for seed in seeds]), seeds

    def trend(self, predicate: Trend) -> Test:
        there, table, seeds = self.rows(predicate, predicate.metric)
        x = [predicate.x[i] if predicate.x else i + 1.0 for i in there]
        rising = predicate.is_ == "rising"
        names = ", ".join(self.name(predicate.cells[i]) for i in there)
        whole = [(seed, row) for seed, row in zip(seeds, table, strict=True) if np.isfinite(row).all()]
        slopes = {seed: float(np.polynomial.polynomial.polyfit(x, row, 1)[1]) for seed, row in whole}
        lost = self._counted([self.place(predicate.cells[i], predicate.metric) for i in there])
        said = f"{self.phrase(predicate.metric)}: {predicate.is_} over {names}"
        if not lost and _same_rows(table):
            return _constant(said, slopes, False, region(predicate), "slope")
        found = trend(x, _ranked(table).tolist())
        up, down = (min(1.0, 2 * p) for p in (found.p_rising, found.p_falling))
        test = _test(
            said,
            slopes,
            False,
            mean_interval(list(slopes.values())),
            region(predicate),
            scale="slope",
            p_support=up if rising else down,
            p_refute=down if rising else up,
        )
        return replace(test, n=len(seeds), note=f"slopes of the other seeds: {lost}" if lost else "")

    def ranks(self, predicate: RankCorrelation) -> Test:
        there, table, seeds = self.rows(predicate, predicate.metric)
        if isinstance(predicate.with_, str):
            others, other, shared = self.rows(predicate, predicate.with_)
            keep = sorted(set(seeds) & set(shared))
            if others != there or len(keep) < 2:
                raise Undecidable(f"{self.phrase(predicate.with_)} is not there for all cells")
            table, other = table[[seeds.index(s) for s in keep]], other[[shared.index(s) for s in keep]]
            seeds = keep
        else:
            other = np.tile([predicate.with_[i] for i in there], (len(seeds), 1))
        claimed = region(predicate)
        above = math.isinf(claimed.high)
        bound = claimed.low if above else claimed.high
        ranks = _ranked(other).tolist(), _ranked(table).tolist(), predicate.kind
        try:
            found = rank_correlation(*ranks, bound)
        except ValueError as error:
            raise Undecidable(str(error)) from None
        opposite = None
        if (side := claimed.other_side) and not claimed.begins_at_neutral:
            on_it = found.mean > 0 if side == "above" else found.mean < 0
            opposite = _p(rank_correlation(*ranks, 0.0).p) if on_it else 1.0
        p, sd = _p(found.p), found.sd or 0.0
        holds = found.mean > bound if above else found.mean < bound
        partner = self.phrase(predicate.with_) if isinstance(predicate.with_, str) else "the order given"
        words = f"{predicate.kind.title()}'s rank correlation of {self.phrase(predicate.metric)} with {partner}"
        said = f"{words}: over {len(there)} cells {'>' if above else '<'} {_bound(bound)}"
        lost = self._counted([self.place(predicate.cells[i], predicate.metric) for i in there])
        if not lost and _same_rows(table) and _same_rows(other):
            return _constant(said, dict(zip(seeds, found.by_seed, strict=True)), False, claimed, "correlation")
        return Test(
            said,
            len(seeds),
            "correlation",
            found.mean,
            found.lower,
            found.upper,
            p_support=p if holds else 1.0,
            p_refute=1.0 if holds else p,
            detectable=detectable(sd, len(seeds), self.alpha),
            needed=seeds_needed(sd, difference=abs(found.mean - bound), alpha=self.alpha),
            by_seed=dict(zip(seeds, found.by_seed, strict=True)),
            misses=claimed.missed(found.mean),
            p_opposite=opposite,
            note=lost,
        )


def _ranked(table: np.ndarray) -> np.ndarray:
    """Numbers of which the ranks in a row are those of a table (seeds, cells) that may have infinite ones."""
    known = table[np.isfinite(table)]
    ends = (known.min() - 1, known.max() + 1) if known.size else (0.0, 1.0)
    return np.nan_to_num(table, neginf=ends[0], posinf=ends[1])


def _same_rows(table: np.ndarray) -> bool:
    """Whether all seeds have the same row."""
    return bool((table == table[0]).all())


def seeds_of(seeds: Sequence[int]) -> str:
    """seed 4, or seeds 0, 1 and 4, or seeds 0 to 4"""
    *others, last = map(str, seeds)
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {others[0]} to {last}"
    return f"seeds {', '.join(others)} and {last}" if others else f"seed {last}"


def _p(value: float | None) -> float:
    return 1.0 if value is None else value


def _side_by_side(left: tuple[str, str], sign: str, right: tuple[str, str]) -> str:
    """Two metrics in words, each of a cell: what is the same in both stands once."""
    (first, a), (second, b) = left, right
    if first == second:
        return f"{first}: {a} {sign} {b}"
    if a == b:
        return f"{first} {sign} {second}: {a}"
    return f"{first} ({a}) {sign} {second} ({b})"


def _bound(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _enough(values: dict[int, float], words: str) -> list[float]:
    if len(values) < 2:
        raise Undecidable(f"{words}: {len(values)} seeds in common; two are needed")
    return list(values.values())


def _test(words: str, values: dict[int, float], log: bool, e: Estimate, claimed: Region, scale: str = "", **rest: Any) -> Test:
    """A test of values by seed, shown on their own scale where they are logarithms of ratios."""
    z = list(values.values())
    bootstrap, opposite = bootstrap_interval(z), None
    if (side := claimed.other_side) and not claimed.begins_at_neutral:
        opposite = min(1.0, 2 * _p(beyond(z, 0.0, side)))
    if log:
        values = {seed: exponential(value) for seed, value in values.items()}
        mean, lower, upper = (None if v is None else exponential(v) for v in (e.mean, e.lower, e.upper))
        e = Estimate(e.n, mean, None, lower, upper)
        bootstrap = (exponential(bootstrap[0]), exponential(bootstrap[1])) if bootstrap else None
    scale = scale or ("ratio" if log else "value")
    return Test(
        *(words, e.n, scale, e.mean, e.lower, e.upper),
        bootstrap=bootstrap,
        by_seed=values,
        misses=claimed.missed(claimed.neutral if e.mean is None else e.mean),
        p_opposite=opposite,
        **rest,
    )


def _constant(words: str, values: dict[int, float], log: bool, claimed: Region, scale: str = "") -> Test:
    """What there is in place of a test of a value that no seed changes: whether it is as claimed."""
    values = {seed: exponential(value) for seed, value in values.items()} if log else values
    value = next(iter(values.values()))
    return Test(
        *(words, len(values), scale or ("ratio" if log else "value"), value, value, value, math.nan, math.nan),
        by_seed=values,
        misses=claimed.missed(value),
        constant=claimed.low < value < claimed.high,
    )


def all_of(tests: Sequence[Test]) -> Test:
    """Several tests that must all hold, shown as the one that decides."""
    settled, asked, needed = *_asked(tests, settles=False), "all must hold"
    if settled is not None:
        return _joined(tests, settled, math.nan, math.nan, settled.misses, None, needed)
    support, refute = max(asked, key=lambda test: test.p_support), min(asked, key=lambda test: test.p_refute)
    p = support.p_support, min(1.0, len(asked) * refute.p_refute)
    opposite = None if refute.p_opposite is None else min(1.0, len(asked) * refute.p_opposite)
    joined = _joined(tests, refute if p[1] < p[0] else support, *p, refute.misses, opposite, needed)
    hopes = [test.hope for test in asked if test.hope is not None]
    return replace(joined, hope=(min(a for a, _ in hopes), max(b for _, b in hopes)) if len(hopes) == len(asked) else None)


def one_of(tests: Sequence[Test]) -> Test:
    """Several tests of which one must hold, shown as the one that decides."""
    settled, asked, needed = *_asked(tests, settles=True), "one must hold"
    if settled is not None:
        return _joined(tests, settled, math.nan, math.nan, settled.misses, None, needed)
    support, refute = min(asked, key=lambda test: test.p_support), max(asked, key=lambda test: test.p_refute)
    p = min(1.0, len(asked) * support.p_support), refute.p_refute
    opposites = [test.p_opposite for test in asked if test.p_opposite is not None]
    opposite = max(opposites) if opposites else None
    joined = _joined(tests, refute if p[1] < p[0] else support, *p, refute.misses, opposite, needed)
    hopes = [test.hope for test in asked if test.hope is not None]
    return replace(joined, hope=(max(a for a, _ in hopes), min(b for _, b in hopes)) if len(hopes) == len(asked) else None)


def _asked(tests: Sequence[Test], settles: bool) -> tuple[Test | None, list[Test]]:
    """The constant that leaves nothing to ask, if one does, and the tests that are no constants.

    settles: whether one that is as claimed leaves nothing to ask of the others, or one that is not.
    """
    asked = [test for test in tests if test.constant is None]
    settled = next((test for test in tests if test.constant is settles), None if asked else tests[0])
    return settled, asked


def _joined(
    tests: Sequence[Test],
    shown: Test,
    p_support: float,
    p_refute: float,
    misses: Miss,
    p_opposite: float | None,
    needed: str,
) -> Test:
    if len(tests) == 1:
        return tests[0]
    each = [test.parts or [test.by_seed] for test in tests]
    first = next(i for i, test in enumerate(tests) if test is shown)
    return replace(
        shown,
        p_support=p_support,
        p_refute=p_refute,
        p_equivalent=None,
        p_sign_flip=None,
        misses=misses,
        p_opposite=p_opposite,
        parts=[values for own in each for values in own],
        names=[name for test in tests for name in test.names or [test.words]],
        part=sum(map(len, each[:first])) + shown.part,
        joined=f"{needed}, of each of which {shown.joined}" if shown.joined else needed,
    )
