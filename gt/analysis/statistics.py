"""Statistics for few seeds. The unit of every number here is one seed.

Differences are paired: two variants with the same seed saw the same batches in the same order, so seed i of one is compared
with seed i of the other. Intervals are Student's t, which keep their coverage at three seeds, where percentile bootstraps
cover 75 % instead of 95 % (BCa ones 72 %). One seed gives no interval: None, never a width of zero. Of a number that no seed
changes (`constant`) there is no test: its p would be 0 however few the seeds, for a t-test takes what does not vary as certain.

What is tested with one number a seed: a mean against a bound (`beyond`), against an interval (`within`, TOST), and two cells
against each other, of which these are the differences. Where some have no number, for their runs diverged, `signed_ranks` takes
the place of `beyond`. With many cells a seed: ranks that agree (`rank_correlation`) and a
trend over ordered cells (`trend`, Page's test). `detectable` and `seeds_needed` say what seeds could have shown.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import scipy  # whose parts are imported when they are first used
from scipy import special

from gt.numbers import exponential

# 2^n sign patterns are enumerated up to this n.
EXACT_SEEDS = 20
# All orders of so many cells are enumerated.
EXACT_CELLS = 8
# From this n on, a bootstrap has something to draw from.
BOOTSTRAP_SEEDS = 10
POWER = 0.8


@dataclass(frozen=True)
class Estimate:
    """A mean over n seeds. `sd` and the bounds are None below two seeds, `mean` below one."""

    n: int
    mean: float | None
    sd: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class Difference:
    """a - b, paired by seed: the mean difference with its interval, and two tests of "no difference".

    p: paired t-test. p_sign_flip: exact, over all 2^n sign patterns; None above `EXACT_SEEDS`. None below two pairs, and both
    p where all pairs differ by the same.
    """

    n: int
    mean: float | None
    sd: float | None
    lower: float | None
    upper: float | None
    p: float | None
    p_sign_flip: float | None


@dataclass(frozen=True)
class EquivalenceTest:
    """Two one-sided tests on the paired log ratio of a to b, for a margin m: is a / b between 1 - m and 1 + m?

    ratio: geometric mean of a / b, with the (1 - 2 alpha) interval whose lying inside the margin is the test.
    p: the larger of the two one-sided p values, None where all seeds have one ratio. verdict, at alpha:
      equivalent            the interval lies inside the margin, and no difference is seen
      lower within margin   inside the margin, and a is nevertheless below b (two-sided t-test); likewise `higher`
      different             the interval lies outside the margin
      inconclusive          none of these: cannot be decided with n seeds
    """

    n: int
    margin: float
    ratio: float | None
    lower: float | None
    upper: float | None
    p: float | None
    verdict: str


def constant(values: Sequence[float]) -> bool:
    """Whether there are several values and no seed changes them."""
    return len(values) > 1 and min(values) == max(values)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The mean and its Student-t interval, mean +- t(n - 1) sd / sqrt(n). ValueError for a value that is not finite."""
    x = _finite(values)
    n = len(x)
    if n == 0:
        return Estimate(0, None, None, None, None)
    mean = float(x.mean())
    if n == 1:
        return Estimate(1, mean, None, None, None)
    sd = float(x.std(ddof=1))
    half = float(special.stdtrit(n - 1, (1 + confidence) / 2)) * sd / math.sqrt(n)
    return Estimate(n, mean, sd, mean - half, mean + half)


def pooled(own: Mapping[int, float], others: Iterable[tuple[int, float]]) -> dict[int, float]:
    """Seed -> the mean of its own value and of others of that seed, of those that have one of their own: one value a seed."""
    every = {seed: [value] for seed, value in own.items()}
    for seed, value in others:
        if seed in every:
            every[seed].append(value)
    return {seed: sum(values) / len(values) for seed, values in every.items()}


def paired_difference(a: Mapping[int, float], b: Mapping[int, float], confidence: float = 0.95) -> Difference:
    """a - b over the seeds that both have. a, b: seed -> value."""
    d = _finite([a[seed] - b[seed] for seed in _common(a, b)])
    e = mean_interval(d.tolist(), confidence)
    if e.n < 2:
        return Difference(e.n, e.mean, None, None, None, None, None)
    if constant(d.tolist()):
        return Difference(e.n, e.mean, e.sd, e.lower, e.upper, None, None)
    flips = sign_flip_p(d.tolist()) if e.n <= EXACT_SEEDS else None
    return Difference(e.n, e.mean, e.sd, e.lower, e.upper, _t_test(d), flips)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Exact two-sided p of the mean under random signs: the share of the 2^n sign patterns at least as extreme."""
    d = _finite(differences)
    if not 1 <= len(d) <= EXACT_SEEDS:
        raise ValueError(f"{len(d)} differences; sign patterns are enumerated for 1 to {EXACT_SEEDS}")
    sums = np.zeros(1)
    for value in d:
        sums = np.concatenate([sums + value, sums - value])
    # Patterns that tie with the observed one in exact arithmetic must count, so rounding is allowed for.
    tolerance = 1e-12 * float(np.abs(d).sum())
    return float(np.mean(np.abs(sums) >= abs(float(d.sum())) - tolerance))


def signed_ranks(values: Sequence[float], bound: float = 0.0) -> tuple[float, float]:
    """One-sided p that values lie above a bound, and below it: Wilcoxon's signed-rank test, exact at any n and with ties.

    Values may be infinite, as a run that diverged counts: they are further from the bound than all others, and as far as each
    other. Those on the bound speak for neither side, and are left out.
    """
    distances = np.asarray(values, dtype=np.float64) - bound
    distances = distances[distances != 0]
    # Ranks of ties are halves; of these sums, which are whole numbers, it is counted how likely each is.
    ranks = np.rint(2 * scipy.stats.rankdata(np.abs(distances))).astype(np.int64)
    likely = np.zeros(int(ranks.sum()) + 1)
    likely[0] = 1.0
    for rank in ranks:
        likely[rank:] = (likely[rank:] + likely[:-rank]) / 2
        likely[:rank] /= 2
    seen = int(ranks[distances > 0].sum())
    return float(likely[seen:].sum()), float(likely[: seen + 1].sum())


def smallest_sign_flip_p(n: int) -> float:
    """The smallest p that `sign_flip_p` can give with n seeds: 0.05 is out of reach below 6."""
    return 2.0 ** (1 - n)


def equivalence(a: Mapping[int, float], b: Mapping[int, float], margin: float, alpha: float = 0.05) -> EquivalenceTest:
    """TOST over the seeds that both have (Schuirmann 1987; Berger and Hsu 1996). Values must be above zero."""
    if not 0 < margin < 1:
        raise ValueError(f"margin {margin} must be between 0 and 1")
    log_ratio = [math.log(a[seed] / b[seed]) for seed in _common(a, b)]
    low, high = math.log(1 - margin), math.log(1 + margin)
    e, p = mean_interval(log_ratio, 1 - 2 * alpha), within(log_ratio, low, high)
    ratio = exponential(e.mean) if e.mean is not None else None
    if e.mean is None or e.lower is None or e.upper is None:
        return EquivalenceTest(e.n, margin, ratio, None, None, None, "inconclusive")
    if p is None:
        verdict = "inconclusive"
    elif low < e.lower and e.upper < high:
        seen = _t_test(_finite(log_ratio)) < alpha
        verdict = ("lower" if e.mean < 0 else "higher") + " within margin" if seen else "equivalent"
    else:
        verdict = "different" if e.upper < low or e.lower > high else "inconclusive"
    return EquivalenceTest(e.n, margin, ratio, exponential(e.lower), exponential(e.upper), p, verdict)


def beyond(values: Sequence[float], bound: float, side: Literal["above", "below"]) -> float | None:
    """One-sided p of a Student-t test that the mean is above (or below) a bound. None below two values, and of a constant."""
    x = _finite(values)
    if len(x) < 2 or constant(x.tolist()):
        return None
    t = _t(x, bound)
    return float(special.stdtr(len(x) - 1, -t if side == "above" else t))


def within(values: Sequence[float], low: float, high: float) -> float | None:
    """p of two one-sided t-tests (TOST) that the mean lies between two bounds: the larger one. None as of `beyond`."""
    p = beyond(values, low, "above"), beyond(values, high, "below")
    return None if p[0] is None or p[1] is None else max(p[0], p[1])


def bootstrap_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """The mean's bias-corrected and accelerated bootstrap interval (Efron 1987), always of the same draws.

    It assumes no shape, and covers less than it promises where there is little to draw from, so it is None below
    `BOOTSTRAP_SEEDS` values. Values without any spread give a width of zero.
    """
    x = _finite(values)
    if len(x) < BOOTSTRAP_SEEDS:
        return None
    if np.ptp(x) == 0:
        return float(x[0]), float(x[0])
    result = scipy.stats.bootstrap((x,), np.mean, confidence_level=confidence, n_resamples=9999, method="BCa", rng=0)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


@dataclass(frozen=True)
class CorrelationTest:
    """A rank correlation over cells, one a seed: mean, sd and 95 % interval over seeds, and the seeds' own.

    p: two-sided, of `against` as the mean; exact where that is 0 and the cells are few. None below two seeds.
    """

    by_seed: list[float]
    mean: float
    sd: float | None
    lower: float | None
    upper: float | None
    p: float | None


def rank_correlation(
    x: Sequence[Sequence[float]],
    y: Sequence[Sequence[float]],
    kind: Literal["kendall", "spearman"],
    against: float = 0.0,
    confidence: float = 0.95,
) -> CorrelationTest:
    """Kendall's tau-b or Spearman's rho of x and y over cells, within each seed. x, y: (seeds, cells), at least 3 cells.

    The cells are given and the seeds are the sample: an interval over seeds says how well the order of these cells is known,
    nothing of other cells. Of no correlation, and up to `EXACT_CELLS` cells, p is exact: every order of a seed's cells is as
    likely as any other, as in Page's test. Else it is a t-test over seeds. Ranks are coarse, and seeds that all agree would
    have no spread, so the sd is taken to be one swap of neighbours at least; against 0.5 with 4 to 8 cells Spearman's t-test
    is a little too small all the same (up to 0.08 for 0.05 at 5 seeds, simulated under Mallows' model). ValueError where all
    cells of a seed are tied.
    """
    a, b = _finite(x), _finite(y)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] < 3:
        raise ValueError(f"x {a.shape} and y {b.shape} must be (seeds, cells) alike, with at least 3 cells")
    if (np.ptp(a, axis=1) == 0).any() or (np.ptp(b, axis=1) == 0).any():
        raise ValueError("a rank correlation needs cells that differ")
    n, k = a.shape
    correlate, swap = (
        (scipy.stats.kendalltau, 4 / (k * (k - 1))) if kind == "kendall" else (scipy.stats.spearmanr, 12 / (k * (k * k - 1)))
    )
    by_seed = [float(correlate(own, other).statistic) for own, other in zip(a, b, strict=True)]
    mean = float(np.mean(by_seed))
    if n < 2:
        return CorrelationTest(by_seed, mean, None, None, None, None)
    sd = max(float(np.std(by_seed, ddof=1)), swap)
    error = sd / math.sqrt(n)
    half = float(special.stdtrit(n - 1, (1 + confidence) / 2)) * error
    if against == 0 and k <= EXACT_CELLS:
        p = _exact_p(by_seed, tuple((_ranks(own), _ranks(other)) for own, other in zip(a, b, strict=True)), kind)
    else:
        p = 2 * float(special.stdtr(n - 1, -abs(mean - against) / error))
    return CorrelationTest(by_seed, mean, sd, max(-1.0, mean - half), min(1.0, mean + half), p)


# The ranks of cells, from the lowest on: all that the orders of them depend on.
Ranks = tuple[float, ...]


def _ranks(values: np.ndarray) -> Ranks:
    return tuple(sorted(scipy.stats.rankdata(values).tolist()))


@cache
def _orders(x: Ranks, y: Ranks, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The rank correlations (`_units`) of x with all orders of y, and how likely each is if no order is likelier."""
    orders = np.array(list(itertools.permutations(y)))
    if kind == "kendall":
        i, j = np.triu_indices(len(x), 1)
        signs = np.sign(np.subtract(*np.array(x)[np.array([i, j])]))
        products = sum(s * np.sign(orders[:, p] - orders[:, q]) for s, p, q in zip(signs, i, j, strict=True))
        scale = math.sqrt(np.count_nonzero(signs) * np.count_nonzero(orders[0, i] - orders[0, j]))
    else:
        left, right = np.array(x) - np.mean(x), orders - np.mean(y)
        products, scale = right @ left, math.sqrt(float(left @ left) * float(right[0] @ right[0]))
    values, counts = np.unique(_units(products / scale), return_counts=True)
    return values, counts / len(orders)


def _units(correlations: Sequence[float] | np.ndarray) -> np.ndarray:
    """Correlations in ten-thousandths: whole numbers, so that their sums are few, and ties are ties."""
    return np.rint(np.asarray(correlations) * 1e4).astype(np.int64)


@cache
def _sums(ranks: tuple[tuple[Ranks, Ranks], ...], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """What the correlations of all seeds can add up to, and how likely that is."""
    sums: np.ndarray = np.zeros(1, np.int64)
    likely: np.ndarray = np.ones(1)
    for x, y in ranks:
        values, own = _orders(x, y, kind)
        every, where = np.unique(np.add.outer(sums, values), return_inverse=True)
        sums, likely = every, np.bincount(where.ravel(), np.outer(likely, own).ravel())
    return sums, likely


def _exact_p(by_seed: Sequence[float], ranks: tuple[tuple[Ranks, Ranks], ...], kind: str) -> float:
    """Two-sided p of the seeds' correlations together, if every order of a seed's cells is as likely as any other."""
    (sums, likely), seen = _sums(ranks, kind), _units(by_seed).sum()
    above, below = float(likely[sums >= seen].sum()), float(likely[sums <= seen].sum())
    return min(1.0, 2 * min(above, below))


@dataclass(frozen=True)
class TrendTest:
    """How a number goes over ordered cells.

    p_rising, p_falling: Page's L. slope: least squares on x, one a seed, with its 95 % t interval.
    """

    n: int
    p_rising: float
    p_falling: float
    slope: Estimate


def trend(x: Sequence[float], y: Sequence[Sequence[float]]) -> TrendTest:
    """Whether y goes one way over cells in the order of x. x: (cells), rising; y: (seeds, cells), at least 3 cells, 2 seeds.

    Page's (1963) test for ordered alternatives in blocks: cells are ranked within each seed, and under the null every order
    of a seed's cells is as likely as any other. It is the test for blocks; Jonckheere's is for unpaired groups. Exact for small
    tables, else by the normal distribution (scipy's choice). It shows that the row rises somewhere and does not say that
    every step does, which a test of the steps would.
    """
    a, b = _finite(x), _finite(y)
    if b.ndim != 2 or b.shape[0] < 2 or b.shape[1] < 3 or a.shape != b.shape[1:] or (np.diff(a) <= 0).any():
        raise ValueError(f"y {b.shape} must be (seeds, cells), at least (2, 3), and x {a.shape} rising")
    rising, falling = (float(scipy.stats.page_trend_test(table).pvalue) for table in (b, -b))
    slope = mean_interval([float(np.polynomial.polynomial.polyfit(a, row, 1)[1]) for row in b])
    return TrendTest(len(b), rising, falling, slope)


def power(difference: float, sd: float, n: int, alpha: float = 0.05) -> float:
    """The chance that a two-sided paired t-test over n seeds sees a true mean difference. sd: of the differences, above 0."""
    if n < 2:
        return 0.0
    shift, critical = abs(difference) / sd * math.sqrt(n), special.stdtrit(n - 1, 1 - alpha / 2) * _sample_sds(n)
    return float((special.ndtr(shift - critical) + special.ndtr(-shift - critical)).mean())


def power_of_equivalence(low: float, high: float, mean: float, sd: float, n: int, alpha: float = 0.05) -> float:
    """The chance that TOST over n seeds finds a true mean within bounds (Phillips 1990). sd: above 0."""
    if n < 2:
        return 0.0
    error = sd / math.sqrt(n)
    critical = special.stdtrit(n - 1, 1 - alpha) * _sample_sds(n)
    inside = special.ndtr((high - mean) / error - critical) - special.ndtr((low - mean) / error + critical)
    return float(np.maximum(inside, 0.0).mean())


@cache
def _sample_sds(n: int) -> np.ndarray:
    """What the sd of n values may come out as, over the true one: 4000 equally likely values, to integrate over to 1e-4.

    scipy's noncentral t has no value in its tails, where a search for power looks.
    """
    return np.sqrt(2 * special.gammaincinv((n - 1) / 2, (np.arange(4000) + 0.5) / 4000) / (n - 1))


def detectable(sd: float, n: int, alpha: float = 0.05, wanted: float = POWER) -> float | None:
    """The smallest true difference that n seeds see with the power wanted. None below two seeds; 0 without any spread."""
    return None if n < 2 else sd * _detectable(n, alpha, wanted)


@cache
def _detectable(n: int, alpha: float, wanted: float) -> float:
    """In units of the sd."""
    upper = 1.0
    while power(upper, 1.0, n, alpha) < wanted:
        upper *= 2
    return float(scipy.optimize.brentq(lambda d: power(d, 1.0, n, alpha) - wanted, 0.0, upper))


def narrowest(sd: float, n: int, alpha: float = 0.05, wanted: float = POWER) -> float | None:
    """The least margin within which TOST over n seeds finds a true mean of 0 with the power wanted, as `detectable`."""
    return None if n < 2 else sd * _narrowest(n, alpha, wanted)


@cache
def _narrowest(n: int, alpha: float, wanted: float) -> float:
    """In units of the sd."""
    upper = 1.0
    while power_of_equivalence(-upper, upper, 0.0, 1.0, n, alpha) < wanted:
        upper *= 2
    return float(scipy.optimize.brentq(lambda m: power_of_equivalence(-m, m, 0.0, 1.0, n, alpha) - wanted, 0.0, upper))


def seeds_needed(
    sd: float,
    *,
    difference: float | None = None,
    bounds: tuple[float, float, float] | None = None,
    alpha: float = 0.05,
    wanted: float = POWER,
    most: int = 10_000,
) -> int | None:
    """The least number of seeds with the power wanted, if the true value and spread are those given; None above `most`.

    difference: a true mean difference that a t-test is to see. bounds: (low, high, mean), for TOST.
    """

    def enough(n: int) -> bool:
        if bounds is not None:
            return power_of_equivalence(*bounds, sd, n, alpha) >= wanted
        return power(difference or 0.0, sd, n, alpha) >= wanted

    if sd == 0:
        return 2
    high = 2
    while not enough(high):
        high *= 2
        if high > most:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p values: the chance of one false positive among all stays below what is asked for."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted


def shaffer(p: Sequence[Sequence[float]]) -> list[list[float]]:
    """Adjusted p values of groups of hypotheses of which at most one in each is true (Shaffer 1986, her first procedure).

    Holm's with fewer to reckon with: a group with hypotheses left holds one that may be true, and never more. Of groups of one
    it is Holm's.
    """
    order = sorted((value, i, j) for i, group in enumerate(p) for j, value in enumerate(group))
    left, adjusted, largest = [len(group) for group in p], [[0.0] * len(group) for group in p], 0.0
    for value, i, j in order:
        largest = max(largest, min(1.0, sum(n > 0 for n in left) * value))
        adjusted[i][j] = largest
        left[i] -= 1
    return adjusted


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's (1995) adjusted p values: the expected share of false positives among what is found."""
    order = sorted(range(len(p)), key=lambda i: p[i], reverse=True)
    adjusted, smallest = [0.0] * len(p), 1.0
    for rank, i in enumerate(order):
        smallest = min(smallest, p[i] * len(p) / (len(p) - rank))
        adjusted[i] = smallest
    return adjusted


def adjusted(p: Sequence[float | None], adjust: Callable[[Sequence[float]], list[float]] = holm) -> list[float | None]:
    """A family's adjusted p values. None: without a test, which counts with p = 1, so that it matters to no verdict whether
    what was planned has run.
    """
    values = adjust([1.0 if own is None else own for own in p])
    return [None if own is None else value for own, value in zip(p, values, strict=True)]


def _common(a: Mapping[int, float], b: Mapping[int, float]) -> list[int]:
    return sorted(set(a) & set(b))


def _finite(values: Sequence[float] | Sequence[Sequence[float]]) -> np.ndarray:
    x = np.asarray(values, dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError("values must be finite; a diverged run has no value")
    return x


def _t(d: np.ndarray, bound: float = 0.0) -> float:
    """Student's t of a mean against a bound, of values that are not all the same."""
    return float((d.mean() - bound) / (d.std(ddof=1) / math.sqrt(len(d))))


def _t_test(d: np.ndarray) -> float:
    """Two-sided p of mean zero."""
    return 2 * float(special.stdtr(len(d) - 1, -abs(_t(d))))
