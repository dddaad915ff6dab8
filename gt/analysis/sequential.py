"""Tests of the mean at several looks: after each, seeds are added only where nothing is decided yet.

A t-test at every look with the p of a single one errs more often than it says. How much of alpha may be used up by a look is
laid down by a spending function of the share of the seeds that it has (Lan and DeMets 1983), and the critical p of each look
follows from the joint law of the t statistics. For a few seeds that is no multivariate normal one, so it is integrated exactly:

Of n differences d the statistic r = sum(d) / sqrt(n sum(d^2)) is, like Student's t, a function of their direction, which
without an effect is uniform on the sphere and independent of their length. So r at the looks is a Markov chain (Hall, Wijsman
and Ghosh 1965). With m further differences, and cos(s) : sin(s) the lengths of the n and of the mean of the m, s of density
cos(s)^(n-1),

    r' >= c  where  sqrt(n) r cos(s) + sqrt(m) sin(s) >= c sqrt((n + m) / (1 - b))

with b the share that the m, about their mean, have of the whole squared length: of density Beta((m - 1) / 2, (n + 1) / 2).

All p here are one-sided. A repeated p is the least alpha at which a look so far would have decided (Jennison and Turnbull 2000,
section 9.2): valid at whichever look one stops, so that Holm's procedure may be used of several.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import scipy  # whose parts are imported when they are first used
from scipy import special

Spending = Literal["pocock", "obrien_fleming"]
# Of the angles that lead from one look to the next, and of those of a look: more where one seed is added, which makes kinks.
INNER, NODES, FINE = 16, 128, 400
# Levels at which the critical values of a design are integrated; between them they are interpolated.
LEVELS = np.geomspace(1e-6, 0.5, 20)
# Ways in which the seeds that are left may turn out.
FUTURES = 4000


def spent(spending: Spending, share: float, alpha: Any) -> Any:
    """What may be spent of a one-sided alpha when a share of the seeds, 0 to 1, has run (Lan and DeMets 1983).

    pocock: alpha log(1 + (e - 1) share); obrien_fleming: 2 - 2 Phi(z / sqrt(share)), z the point that alpha / 2 lies above.
    """
    if share >= 1:
        return alpha
    if spending == "pocock":
        return alpha * math.log1p((math.e - 1) * share)
    return 2 * special.ndtr(special.ndtri(alpha / 2) / math.sqrt(share))


def level(spending: Spending, share: float, p: float | np.ndarray) -> Any:
    """The alpha of which this much may be spent when a share of the seeds has run: the inverse of `spent`."""
    if share >= 1:
        return p
    if spending == "pocock":
        return p / math.log1p((math.e - 1) * share)
    return 2 * special.ndtr(special.ndtri(np.divide(p, 2)) * math.sqrt(share))


@dataclass(frozen=True)
class _Law:
    """Where r may be at a look if no earlier one has decided: sines of angles, and how likely each."""

    n: int
    r: np.ndarray
    weight: np.ndarray


def _first(n: int, critical: float, nodes: int) -> _Law:
    """The law at the first look of what does not decide there. critical: a p."""
    angle, width = _angles(_r_of(n, critical), _width(n), nodes)
    density = np.exp((n - 2) * np.log(np.cos(angle)) - special.betaln(0.5, (n - 1) / 2))
    return _Law(n, np.sin(angle), width * density)


def _next(law: _Law, n: int, critical: float) -> _Law:
    """The law at the next look, of n seeds in all. Its density is the slope of the chance to lie above an angle."""
    end = math.asin(_r_of(n, critical))
    chance = np.polynomial.chebyshev.Chebyshev.interpolate(
        lambda angles: _above(law, n, np.sin(angles)), len(law.r), domain=(-_width(n), end)
    )
    angle, width = _angles(math.sin(end), _width(n), len(law.r))
    return _Law(n, np.sin(angle), -width * chance.deriv()(angle))


def _angles(r: float, width: float, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """The nodes and weights of integrals over the angles within a width whose sines lie below r."""
    place, weight = np.polynomial.legendre.leggauss(nodes)
    half = (math.asin(r) + width) / 2
    return half * (place + 1) - width, half * weight


def _width(n: int) -> float:
    """The angles of n differences lie within this; those beyond have less than 1e-30 of the chance."""
    return min(math.pi / 2, 12 / math.sqrt(n))


def _r_of(n: int, p: float) -> float:
    """The r of n differences whose one-sided p is this."""
    t = -float(special.stdtrit(n - 1, p)) if p > 0 else math.inf
    return t / math.hypot(t, math.sqrt(n - 1)) if math.isfinite(t) else 1.0


def _above(law: _Law, n: int, c: np.ndarray) -> np.ndarray:
    """The chance to come from a law of the look before to r >= c, with n seeds in all. c: any number of values."""
    # r' >= c is not (-r' >= -c), and -r' comes from -r in the same way.
    sign = np.where(c < 0, -1.0, 1.0)
    reached = _reached(law.n, n - law.n, sign[:, None] * law.r, np.abs(c)[:, None])
    return np.where(sign[:, None] < 0, 1 - reached, reached) @ law.weight


def _chance(law: _Law, n: int, p: float) -> float:
    """The chance of a p below this one at a look of n seeds, where no earlier one has decided."""
    return float(_above(law, n, np.array([_r_of(n, p)]))[0])


def _reached(n: int, m: int, r: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The chance of r' >= c, which is not below zero, after m further differences, where that of the first n is r."""
    along, across = math.sqrt(n) * r, math.sqrt(m)
    length, middle, goal = np.hypot(along, across), np.arctan2(across, along), c * math.sqrt(n + m)

    def where(b: np.ndarray | float) -> np.ndarray:
        reach = np.arccos(np.minimum(1.0, goal / length / np.sqrt(1 - b)))
        return _below(n, middle + reach) - _below(n, middle - reach)

    # One further difference does not vary about its mean.
    if m == 1:
        return where(0.0)
    # No larger b can be enough. Its root there, and at 0, is smooth in the angle u of b = most sin(u)^2.
    most = np.maximum(1 - (goal / length) ** 2, 1e-12)
    law = scipy.stats.beta((m - 1) / 2, (n + 1) / 2)
    ends = [np.arcsin(np.sqrt(np.clip((law.mean() + side * law.std()) / most, 0, 1))) for side in (-9, 9)]
    total = np.zeros(np.broadcast_shapes(r.shape, c.shape))
    for node, weight in zip(*np.polynomial.legendre.leggauss(INNER), strict=True):
        u = ends[0] + (ends[1] - ends[0]) * (1 + node) / 2
        b = most * np.sin(u) ** 2
        density = np.exp(special.xlogy((m - 2) / 2, b) + special.xlog1py((n - 1) / 2, -b) - special.betaln(*law.args))
        total += weight * (ends[1] - ends[0]) * density * np.sqrt(most) * np.cos(u) * where(b)
    return total


def _below(n: int, angle: np.ndarray) -> np.ndarray:
    """The chance of an angle, from -pi/2 to pi/2 with density cos^(n-1), below this one."""
    sine = np.sin(np.clip(angle, -math.pi / 2, math.pi / 2))
    return np.asarray(0.5 + np.sign(sine) * special.betainc(0.5, n / 2, sine**2) / 2)


@cache
def critical(seeds: tuple[int, ...], shares: tuple[float, ...], spending: Spending, alpha: float) -> list[float]:
    """The p of each look below which it decides, so that alpha is spent as laid down.

    seeds: that there are at each look, rising, from 2. shares: of all that are planned.
    """
    totals = [0.0, *(spent(spending, share, alpha) for share in shares)]
    due = [total - before for before, total in itertools.pairwise(totals)]
    return [found for found, _ in _looks(seeds, lambda k, law: due[0] if law is None else _solved(law, seeds[k], due[k]))]


def crossings(seeds: Sequence[int], critical: Sequence[float]) -> list[float]:
    """How likely each look is the first whose p is below its critical one, without an effect.

    seeds: at each look, rising, from 2. Its error is below a thousandth of itself.
    """
    return [
        p if law is None else _chance(law, seeds[k], p) for k, (p, law) in enumerate(_looks(seeds, lambda k, _: critical[k]))
    ]


def _looks(seeds: Sequence[int], choose: Callable[[int, _Law | None], float]) -> Iterator[tuple[float, _Law | None]]:
    """The critical p of each look, as it is chosen, with the law of what comes to it; None before the first."""
    nodes = FINE if 1 in np.diff(seeds) else NODES
    law = None
    for k in range(len(seeds)):
        p = choose(k, law)
        yield p, law
        if k + 1 < len(seeds):
            law = _first(seeds[k], p, nodes) if law is None else _next(law, seeds[k], p)


def _solved(law: _Law, n: int, due: float) -> float:
    """The p of a look of n seeds that what comes from a law is below with the chance that is due."""

    def excess(p: float) -> float:
        return _chance(law, n, math.exp(p)) - due

    # Any p at all is at least as likely as to be the first, and none above a half speaks for an effect.
    low, high = math.log(max(due, 1e-300)), math.log(0.5)
    if excess(high) < 0:
        return 0.5
    return math.exp(scipy.optimize.brentq(excess, low, high, xtol=1e-9)) if excess(low) < 0 else due


@cache
def _curves(seeds: tuple[int, ...], shares: tuple[float, ...], spending: Spending) -> list[scipy.interpolate.PchipInterpolator]:
    """Of each look after the first, the level whose critical value a p is; both as points of the normal distribution, between
    which the one is almost linear in the other.
    """
    points = special.ndtri([critical(seeds, shares, spending, float(alpha)) for alpha in LEVELS])
    rising = [np.concatenate(([True], np.diff(column) > 0)) for column in points.T]
    return [
        scipy.interpolate.PchipInterpolator(points[keep, k], special.ndtri(LEVELS[keep]), extrapolate=False)
        for k, keep in enumerate(rising)
        if k > 0
    ]


@dataclass(frozen=True)
class Design:
    """Looks, as they are planned: how many seeds each has, rising, from 2, and how alpha is spent over them."""

    seeds: tuple[int, ...]
    spending: Spending = "obrien_fleming"

    @property
    def shares(self) -> tuple[float, ...]:
        """Of all seeds, those of each look."""
        return tuple(n / self.seeds[-1] for n in self.seeds)

    def critical(self, alpha: float) -> list[float]:
        """The one-sided p of each look below which it decides."""
        return critical(self.seeds, self.shares, self.spending, alpha)

    def repeated(self, p: Sequence[float] | np.ndarray, seeds: Sequence[int]) -> Any:
        """The repeated p of t-tests at the looks so far, a number, or an array where each p is one.

        p: (..., looks). seeds: that each look had, which are fewer than planned where runs are lost. At least 1e-6, but for the
        first look; 1 where no level below a half would have decided.
        """
        p = np.asarray(p, dtype=np.float64)
        looks = p.shape[-1]
        if len(set(seeds)) < looks:  # one had nothing new
            return self.repeated_of_any(p)
        found = [level(self.spending, self.shares[0], p[..., 0])]
        if looks > 1:
            for k, curve in enumerate(_curves(tuple(seeds), self.shares[:looks], self.spending), 1):
                point = special.ndtri(p[..., k])
                known = special.ndtr(curve(np.maximum(point, curve.x[0])))
                found.append(np.where(np.isnan(known), 1.0, known))
        found += [np.where((p == 0).any(axis=-1), 0.0, 1.0)]
        result = np.minimum.reduce(found)
        return float(result) if result.ndim == 0 else result

    def repeated_of_any(self, p: Sequence[float] | np.ndarray) -> Any:
        """The same of tests whose joint law is not known: each look spends what is its own (Bonferroni)."""
        p = np.asarray(p, dtype=np.float64)

        def decided(alpha: np.ndarray) -> np.ndarray:
            totals = [np.zeros_like(alpha), *(spent(self.spending, share, alpha) for share in self.shares[: p.shape[-1]])]
            return np.asarray((p <= np.diff(np.stack(totals, axis=-1), axis=-1)).any(axis=-1))

        low, high = np.zeros(p.shape[:-1]), np.full(p.shape[:-1], 0.5)
        never = ~decided(high)
        for _ in range(50):
            middle = (low + high) / 2
            enough = decided(middle)
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        result = np.where(never, 1.0, high)
        return float(result) if result.ndim == 0 else result


def interval(values: Sequence[float], p: float) -> tuple[float, float]:
    """The repeated confidence interval of a mean: what a look does not reject on either side (Jennison and Turnbull 1989).

    p: the look's critical one-sided p of half of what the interval may miss.
    """
    x = np.asarray(values, dtype=np.float64)
    half = -float(special.stdtrit(len(x) - 1, p)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return float(x.mean()) - half, float(x.mean()) + half


def conditional_power(values: Sequence[float], n: int, p: float, low: float = -math.inf, high: float = math.inf) -> float:
    """How likely t-tests of all n seeds find the mean above `low` and below `high`, if the others are like those so far.

    values: of the seeds so far, from 2. p: the critical one-sided p of the last look. Of 4000 futures, always the same.
    """
    x = np.asarray(values, dtype=np.float64)
    further = np.random.default_rng(0).standard_normal((FUTURES, n - len(x))) * x.std(ddof=1) + x.mean()
    mean = (x.sum() + further.sum(axis=1)) / n
    squares = ((x - x.mean()) ** 2).sum() + ((further - x.mean()) ** 2).sum(axis=1) - n * (mean - x.mean()) ** 2
    reach = -float(special.stdtrit(n - 1, p)) * np.sqrt(squares / (n - 1) / n)
    return float(np.mean((mean - reach > low) & (mean + reach < high)))
