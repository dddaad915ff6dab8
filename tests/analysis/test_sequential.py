"""Tests at several looks: what is known of them, and what they do in simulations that share no code with them."""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
import pytest
from scipy import special, stats

from gt.analysis.sequential import Design, Spending, conditional_power, critical, crossings, interval, level, spent

DESIGN = (5, 8, 12)
SPENDINGS: list[Spending] = ["pocock", "obrien_fleming"]


@cache
def one_sided(seeds: tuple[int, ...], trials: int = 400_000, effect: float = 0.0) -> np.ndarray:
    """p of t-tests that the mean is above zero, (trials, looks), by scipy's law of t on drawn differences."""
    d = np.random.default_rng(7).standard_normal((trials, seeds[-1])) + effect
    return np.stack([stats.t.sf(d[:, :n].mean(1) / d[:, :n].std(1, ddof=1) * math.sqrt(n), n - 1) for n in seeds], axis=1)


def first_below(p: np.ndarray, values: list[float]) -> np.ndarray:
    """The share of trials that each look is the first to decide."""
    below = p < values
    first = np.where(below.any(1), below.argmax(1), p.shape[1])
    return np.bincount(first, minlength=p.shape[1] + 1)[: p.shape[1]] / len(p)


@pytest.mark.parametrize("seeds", [(5, 8, 12), (2, 3, 9), (5, 6, 7, 8), (10, 40), (3, 5, 20)])
@pytest.mark.parametrize("p", [0.03, 0.004])
def test_crossings_are_those_of_drawn_differences(seeds: tuple[int, ...], p: float) -> None:
    expected = first_below(one_sided(seeds), [p] * len(seeds))
    error = np.sqrt(expected * (1 - expected) / 400_000)
    assert (np.abs(crossings(seeds, [p] * len(seeds)) - expected) < 4 * error).all()


def test_a_constant_p_at_5_8_and_12_seeds() -> None:
    assert 2 * sum(crossings(DESIGN, [0.0217 / 2] * 3)) == pytest.approx(0.051, abs=0.0005)


def test_with_many_seeds_the_critical_values_are_those_of_normal_means() -> None:
    """Of two looks of a one-sided 2.5 % they are 2.178 (Pocock), or 2.797 and 1.977 (O'Brien and Fleming).

    Jennison and Turnbull (2000), tables 2.1 and 2.3.
    """
    many = (20_000, 40_000)
    pocock = special.ndtr(-2.178)
    assert sum(crossings(many, [pocock, pocock])) == pytest.approx(0.025, rel=2e-3)
    assert sum(crossings(many, [special.ndtr(-2.797), special.ndtr(-1.977)])) == pytest.approx(0.025, rel=2e-3)


@pytest.mark.parametrize("spending", SPENDINGS)
@pytest.mark.parametrize("alpha", [0.05, 0.025, 0.025 / 40])
def test_each_look_spends_what_is_laid_down(spending: Spending, alpha: float) -> None:
    design = Design(DESIGN, spending)
    totals = [0.0, *(spent(spending, share, alpha) for share in design.shares)]
    assert crossings(DESIGN, design.critical(alpha)) == pytest.approx(np.diff(totals), rel=1e-6)
    assert totals[-1] == alpha


@pytest.mark.parametrize("spending", SPENDINGS)
def test_what_is_spent_says_of_which_level_it_is(spending: Spending) -> None:
    for share in (0.2, 0.7, 1.0):
        assert level(spending, share, spent(spending, share, 0.0123)) == pytest.approx(0.0123, rel=1e-9)


@pytest.mark.parametrize("spending", SPENDINGS)
@pytest.mark.parametrize("alpha", [0.05, 0.0123, 0.025 / 40])
def test_a_repeated_p_is_alpha_where_a_look_just_decides(spending: Spending, alpha: float) -> None:
    design = Design(DESIGN, spending)
    for k, p in enumerate(design.critical(alpha)):
        assert design.repeated([0.4] * k + [p], DESIGN[: k + 1]) == pytest.approx(alpha, rel=5e-3)


@pytest.mark.parametrize("spending", SPENDINGS)
def test_without_an_effect_no_repeated_p_is_smaller_more_often_than_it_says(spending: Spending) -> None:
    design, p = Design(DESIGN, spending), one_sided(DESIGN, 40_000)
    found = design.repeated(p, DESIGN)
    for alpha in (0.2, 0.05, 0.025):
        assert stats.binomtest(int((found <= alpha).sum()), 40_000, alpha, "greater").pvalue > 0.01
        assert stats.binomtest(int((found <= alpha).sum()), 40_000, alpha, "less").pvalue > 0.01  # and nothing is given away


def test_a_look_more_never_takes_a_decision_back() -> None:
    design = Design(DESIGN)
    p = one_sided(DESIGN, 4000)
    values = [design.repeated(p[:, : k + 1], DESIGN[: k + 1]) for k in range(3)]
    assert all((later <= earlier).all() for earlier, later in itertools.pairwise(values))


def test_where_runs_are_lost_the_looks_are_of_those_that_there_are() -> None:
    design = Design(DESIGN)
    p = critical((5, 7, 11), design.shares, design.spending, 0.025)
    assert design.repeated([0.5, 0.5, p[2]], (5, 7, 11)) == pytest.approx(0.025, rel=5e-3)


@pytest.mark.parametrize("spending", SPENDINGS)
def test_tests_of_any_law_share_what_is_spent(spending: Spending) -> None:
    """Of independent p, which is far from how looks go together, some look decides about as often as alpha says."""
    design, p = Design(DESIGN, spending), np.random.default_rng(3).random((20_000, 3))
    found = design.repeated_of_any(p)
    assert stats.binomtest(int((found <= 0.05).sum()), len(p), 0.05, "greater").pvalue > 0.01
    assert (found <= 0.05).mean() > 0.045
    assert design.repeated_of_any([0.9, 0.9, 0.9]) == 1.0


def test_values_without_any_spread_are_certain() -> None:
    assert Design(DESIGN).repeated([0.0], DESIGN[:1]) == 0.0


@pytest.mark.parametrize("effect", [0.0, 1.5])
def test_intervals_at_whichever_look_one_stops_hold_the_mean(effect: float) -> None:
    design, rng = Design(DESIGN), np.random.default_rng(11)
    values, held = design.critical(0.025), 0
    for _ in range(3000):
        d = rng.normal(effect, 1, 12)
        # One stops where zero is outside, which is the worst one can do to an interval.
        ends = [interval(d[:n], p) for n, p in zip(DESIGN, values, strict=True)]
        low, high = next(((low, high) for low, high in ends if low > 0 or high < 0), ends[-1])
        held += low < effect < high
    assert stats.binomtest(held, 3000, 0.95, "less").pvalue > 0.01


def test_conditional_power_is_the_share_of_futures_that_decide() -> None:
    seen, p = np.array([0.3, 1.4, -0.2, 0.9, 0.5]), 0.02
    further = np.random.default_rng(5).normal(seen.mean(), seen.std(ddof=1), (100_000, 7))
    whole = np.hstack([np.tile(seen, (100_000, 1)), further])
    mean, error = whole.mean(1), whole.std(1, ddof=1) / math.sqrt(12)
    above, within = (
        stats.t.sf(mean / error, 11) < p,
        (stats.t.sf((mean + 1) / error, 11) < p) & (stats.t.cdf((mean - 1) / error, 11) < p),
    )
    for decided, bounds in ((above, (0.0, math.inf)), (within, (-1.0, 1.0))):
        share = float(decided.mean())
        assert conditional_power(seen, 12, p, *bounds) == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000))
