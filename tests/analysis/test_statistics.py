"""Statistics over seeds, against scipy, statsmodels and examples that can be worked by hand."""

from __future__ import annotations

import itertools
import math
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from gt.analysis.statistics import (
    benjamini_hochberg,
    beyond,
    bootstrap_interval,
    detectable,
    equivalence,
    holm,
    mean_interval,
    paired_difference,
    power,
    power_of_equivalence,
    rank_correlation,
    seeds_needed,
    sign_flip_p,
    signed_ranks,
    smallest_sign_flip_p,
    trend,
    within,
)

A = {0: 2.10, 1: 2.14, 2: 2.12, 3: 2.09, 4: 2.17}
B = {0: 2.00, 1: 2.06, 2: 2.05, 3: 2.01, 4: 2.06}
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_a_mean_has_scipys_t_interval() -> None:
    values = list(A.values())
    e = mean_interval(values)
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert (e.n, e.mean) == (5, pytest.approx(np.mean(values)))
    assert (e.lower, e.upper) == (pytest.approx(low), pytest.approx(high))


def test_two_seeds_by_hand() -> None:
    # sd = sqrt(2)/2 of a gap of 1, t(1) = 12.706: half-width 12.706 * 0.7071 / sqrt(2)
    e = mean_interval([1.0, 2.0])
    assert e.mean == 1.5
    assert e.upper is not None
    assert e.upper - 1.5 == pytest.approx(12.7062 / 2, rel=1e-4)


def test_one_seed_has_a_mean_and_no_interval() -> None:
    assert mean_interval([2.0]).mean == 2.0
    assert mean_interval([2.0]).lower is mean_interval([2.0]).upper is mean_interval([2.0]).sd is None
    d = paired_difference({3: 1.0}, {3: 1.5, 4: 9.0})
    assert (d.n, d.mean, d.lower, d.p, d.p_sign_flip) == (1, -0.5, None, None, None)
    assert equivalence({3: 1.0}, {3: 1.0}, 0.01).verdict == "inconclusive"


def test_no_seed_has_nothing() -> None:
    assert mean_interval([]).mean is None
    assert paired_difference({0: 1.0}, {1: 1.0}).mean is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_diverged_value_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_interval([1.0, bad])


def test_a_difference_is_paired_by_seed_not_by_order() -> None:
    backwards = dict(reversed(B.items()))
    d = paired_difference(A, {**backwards, 99: 0.0})
    expected = stats.ttest_rel(list(A.values()), list(B.values()))
    interval = expected.confidence_interval(0.95)
    assert d.n == 5
    assert d.p == pytest.approx(expected.pvalue)
    assert (d.lower, d.upper) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_what_the_seeds_share_does_not_widen_a_difference() -> None:
    shift = {seed: 10.0 * seed for seed in A}
    moved = paired_difference({s: A[s] + shift[s] for s in A}, {s: B[s] + shift[s] for s in B})
    assert moved.sd == pytest.approx(paired_difference(A, B).sd)


@pytest.mark.parametrize("difference", [0.0, 0.5])
def test_of_differences_without_spread_there_is_no_test(difference: float) -> None:
    a = {seed: float(seed) for seed in range(5)}
    found = paired_difference({seed: value + difference for seed, value in a.items()}, a)
    assert (found.n, found.mean, found.sd) == (5, difference, 0.0)
    assert (found.p, found.p_sign_flip) == (None, None)


@settings(max_examples=40)
@given(st.lists(st.integers(-50, 50), min_size=1, max_size=8))
def test_sign_flips_are_all_enumerated(differences: list[int]) -> None:
    observed = abs(sum(differences))
    patterns = itertools.product([1, -1], repeat=len(differences))
    extreme = [abs(sum(s * d for s, d in zip(p, differences, strict=True))) >= observed for p in patterns]
    assert sign_flip_p([d / 10 for d in differences]) == sum(extreme) / len(extreme)


def test_sign_flips_agree_with_scipys_permutation_test() -> None:
    d = np.array([0.10, 0.08, -0.03, 0.08, 0.11, 0.02])
    result = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(d.tolist()) == pytest.approx(result.pvalue)


def test_the_exact_test_cannot_reach_5_percent_below_six_seeds() -> None:
    assert smallest_sign_flip_p(5) == sign_flip_p([1.0] * 5) == 0.0625
    assert smallest_sign_flip_p(6) == sign_flip_p([1.0] * 6) < 0.05


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9), st.sampled_from([0.0, 1.0, -0.5]))
def test_signed_ranks_are_all_enumerated_also_with_ties(values: list[int], bound: float) -> None:
    """Every sign of the distances from the bound is as likely as the other; those on the bound are left out."""
    distances = [value - bound for value in values if value != bound]
    ranks = stats.rankdata(np.abs(distances)).tolist()
    seen = sum(rank for rank, d in zip(ranks, distances, strict=True) if d > 0)
    sums = [sum(itertools.compress(ranks, signs)) for signs in itertools.product((0, 1), repeat=len(ranks))]
    above, below = (float(np.mean([hit(own) for own in sums])) for hit in (lambda s: s >= seen, lambda s: s <= seen))
    assert signed_ranks(values, bound) == (pytest.approx(above), pytest.approx(below))


@pytest.mark.parametrize("n", [5, 12, 40])
def test_signed_ranks_are_scipys_exact_test(n: int) -> None:
    d = np.random.default_rng(n).normal(0.3, 1, n)
    above, below = (stats.wilcoxon(d, alternative=way, method="exact").pvalue for way in ("greater", "less"))
    assert signed_ranks(d.tolist()) == (pytest.approx(above), pytest.approx(below))


def test_what_is_infinite_is_further_than_all_else() -> None:
    """Of the 32 signs of five ranks, those of 5 and 4 against the others: 5 + 4 = 9 of 15, or more, in 9."""
    far = signed_ranks([math.inf, 0.5, -0.3, -0.2, -0.1])
    assert far == signed_ranks([1000.0, 0.5, -0.3, -0.2, -0.1]) == (13 / 32, 22 / 32)
    assert signed_ranks([math.inf, -math.inf]) == (0.75, 0.75)
    assert signed_ranks([0.0, 0.0]) == (1.0, 1.0)


def test_equivalence_is_statsmodels_tost_of_the_log_ratio() -> None:
    x, y = np.log(list(A.values())), np.log(list(B.values()))
    p, _, _ = ttost_paired(x, y, math.log(0.95), math.log(1.05))
    e = equivalence(A, B, 0.05)
    assert e.p == pytest.approx(p)
    low, high = stats.ttest_rel(x, y).confidence_interval(0.90)
    assert (e.lower, e.upper) == (pytest.approx(math.exp(low)), pytest.approx(math.exp(high)))


NOISE = (0.001, -0.002, 0.0005, 0.0015, -0.001)


@pytest.mark.parametrize(
    ("ratio", "spread", "verdict"),
    [
        (1.000, 1, "equivalent"),
        (0.990, 1, "lower within margin"),
        (1.010, 1, "higher within margin"),
        (1.100, 1, "different"),
        (0.900, 1, "different"),
        (1.000, 100, "inconclusive"),
        (1.050, 5, "inconclusive"),
    ],
)
def test_the_verdicts_of_an_equivalence_test(ratio: float, spread: float, verdict: str) -> None:
    a = {i: 2 * ratio * math.exp(spread * e) for i, e in enumerate(NOISE)}
    assert equivalence(a, dict.fromkeys(a, 2.0), margin=0.05).verdict == verdict


@pytest.mark.parametrize("value", [2.0, 4.0])
def test_of_ratios_without_spread_there_is_no_test(value: float) -> None:
    found = equivalence({0: value, 1: value}, {0: 2.0, 1: 2.0}, 0.01)
    assert (found.ratio, found.p, found.verdict) == (pytest.approx(value / 2), None, "inconclusive")


def test_a_ratio_beyond_all_floats_is_infinite() -> None:
    found = equivalence({0: 1e300, 1: 1e-300}, {0: 1.0, 1: 1.0}, margin=0.05)
    assert (found.ratio, found.lower, found.upper) == (pytest.approx(1.0), 0.0, math.inf)
    assert found.verdict == "inconclusive"


@settings(max_examples=40)
@given(p_values)
def test_holm_is_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(list(multipletests(p, method="holm")[1]))


@settings(max_examples=40)
@given(p_values)
def test_benjamini_hochberg_is_scipys(p: list[float]) -> None:
    assert benjamini_hochberg(p) == pytest.approx(list(stats.false_discovery_control(p)))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == benjamini_hochberg([]) == []


def test_a_bound_is_scipys_one_sided_t_test() -> None:
    values = list(A.values())
    for side, alternative in (("above", "greater"), ("below", "less")):
        expected = stats.ttest_1samp(values, 2.1, alternative=alternative).pvalue
        assert beyond(values, 2.1, side) == pytest.approx(expected)
    assert beyond([2.0], 1.0, "above") is within([2.0], 1.0, 3.0) is None


def test_an_interval_is_the_worse_of_two_bounds() -> None:
    values = list(A.values())
    above = stats.ttest_1samp(values, 2.0, alternative="greater").pvalue
    below = stats.ttest_1samp(values, 2.2, alternative="less").pvalue
    assert within(values, 2.0, 2.2) == pytest.approx(max(above, below))
    assert within([1.0, 1.0], 0.9, 1.1) is beyond([1.0, 1.0], 0.9, "above") is None  # no seed changes it


def test_a_bootstrap_needs_ten_seeds_and_is_scipys_bca() -> None:
    values = np.random.default_rng(1).exponential(1.0, 12)
    assert bootstrap_interval(values[:9].tolist()) is None
    low, high = stats.bootstrap((values,), np.mean, n_resamples=9999, method="BCa", rng=0).confidence_interval
    assert bootstrap_interval(values.tolist()) == (pytest.approx(low), pytest.approx(high))
    assert bootstrap_interval([2.0] * 10) == (2.0, 2.0)


# Kendall's (1955) table of two judges: 10 objects, tau 0.11, rho 0.14 (chapter 1).
JUDGES = ([7, 4, 3, 10, 6, 2, 9, 8, 1, 5], [5, 7, 3, 10, 1, 9, 6, 2, 8, 4])


@pytest.mark.parametrize(("kind", "function"), [("kendall", stats.kendalltau), ("spearman", stats.spearmanr)])
def test_a_rank_correlation_is_the_mean_of_scipys_over_seeds(kind: str, function: Any) -> None:
    rng = np.random.default_rng(3)
    x = np.arange(6.0)
    y = x + rng.normal(0, 2.0, (5, 6))
    c = rank_correlation(np.tile(x, (5, 1)), y, kind, against=0.25)
    own = [function(x, row).statistic for row in y]
    assert c.by_seed == pytest.approx(own)
    assert (c.mean, c.p) == (pytest.approx(np.mean(own)), pytest.approx(stats.ttest_1samp(own, 0.25).pvalue))
    low, high = stats.t.interval(0.95, 4, loc=np.mean(own), scale=stats.sem(own))
    assert (c.lower, c.upper) == (pytest.approx(max(-1, low)), pytest.approx(min(1, high)))
    assert rank_correlation([x], [y[0]], kind).p is None


def test_two_judges_by_hand() -> None:
    concordant = sum(
        (JUDGES[0][i] - JUDGES[0][j]) * (JUDGES[1][i] - JUDGES[1][j]) > 0 for i, j in itertools.combinations(range(10), 2)
    )
    assert rank_correlation([JUDGES[0]], [JUDGES[1]], "kendall").mean == pytest.approx((2 * concordant - 45) / 45)
    squares = sum((a - b) ** 2 for a, b in zip(*JUDGES, strict=True))
    assert rank_correlation([JUDGES[0]], [JUDGES[1]], "spearman").mean == pytest.approx(1 - 6 * squares / 990)


def test_seeds_that_all_agree_are_not_certain() -> None:
    rows = [[1.0, 2.0, 3.0, 4.0]] * 5
    # One swap of neighbours among four is a third of a tau, and 12 / 60 of a rho.
    for kind, swap in (("kendall", 1 / 3), ("spearman", 0.2)):
        c = rank_correlation(rows, rows, kind)
        assert (c.mean, c.sd, c.upper) == (1.0, pytest.approx(swap), 1.0)
        assert c.lower == pytest.approx(1 - stats.t.ppf(0.975, 4) * swap / math.sqrt(5))
        assert c.p == pytest.approx(2 / 24**5)  # one order of the 24 that each seed could have
        assert rank_correlation(rows, rows, kind, against=0.5).p == pytest.approx(2 * stats.t.sf(math.sqrt(5) / 2 / swap, 4))


@pytest.mark.parametrize(("kind", "function"), [("kendall", stats.kendalltau), ("spearman", stats.spearmanr)])
def test_that_ranks_have_nothing_to_do_with_each_other_is_tested_over_all_orders(kind: str, function: Any) -> None:
    """Of two seeds of four cells, of which two are tied, by going through all 24 x 24."""
    x, y = [[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 2.0, 4.0]], [[1.0, 3.0, 2.0, 4.0], [2.0, 1.0, 4.0, 4.0]]
    first, second = ([function(a, order).statistic for order in itertools.permutations(b)] for a, b in zip(x, y, strict=True))
    seen = function(x[0], y[0]).statistic + function(x[1], y[1]).statistic
    more = np.mean([a + b >= seen - 1e-9 for a, b in itertools.product(first, second)])
    assert rank_correlation(x, y, kind).p == pytest.approx(2 * more)
    back = [[-value for value in row] for row in y]
    assert rank_correlation(x, back, kind).p == pytest.approx(2 * more)


def test_a_few_ranks_agree_by_chance_as_often_as_the_level_says() -> None:
    """All 6^4 ways in which four seeds can order three cells, each as likely: none is called surprising too often."""
    orders = list(itertools.permutations([1.0, 2.0, 3.0]))
    ways = list(itertools.combinations_with_replacement(orders, 4))
    likely = [math.factorial(4) / math.prod(math.factorial(way.count(own)) for own in set(way)) / 6**4 for way in ways]
    p = [float(rank_correlation([[1.0, 2.0, 3.0]] * 4, [list(own) for own in way], "spearman").p or 0.0) for way in ways]
    assert sum(likely) == pytest.approx(1)
    for level in (0.01, 0.05, 0.1, 0.2):
        assert sum(share for share, own in zip(likely, p, strict=True) if own <= level) <= level + 1e-12


@pytest.mark.parametrize(("n", "k"), [(5, 3), (5, 4), (3, 5), (5, 5), (5, 8), (10, 6)])
@pytest.mark.parametrize("kind", ["kendall", "spearman"])
def test_ranks_that_have_nothing_to_do_with_each_other_rarely_agree(n: int, k: int, kind: str) -> None:
    rng = np.random.default_rng(10 * n + k)
    order = np.tile(np.arange(k), (n, 1))
    seen = [rank_correlation(order, rng.normal(0, 1, (n, k)), kind).p < 0.05 for _ in range(300)]
    # three standard errors of 5 % over so many
    assert np.mean(seen) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_rank_correlations_refuse_what_has_no_order() -> None:
    with pytest.raises(ValueError, match="at least 3 cells"):
        rank_correlation([[1.0, 2.0]], [[1.0, 2.0]], "kendall")
    with pytest.raises(ValueError, match="differ"):
        rank_correlation([[1.0, 1.0, 1.0]], [[1.0, 2.0, 3.0]], "spearman")


# Hollander, Wolfe and Chicken (2014), table 7.5, breaking strength of cotton by potash: L 158, exact p at or below 0.01.
COTTON = [[7.46, 7.17, 7.76, 8.14, 7.63], [7.68, 7.57, 7.73, 8.15, 8.00], [7.21, 7.80, 7.74, 7.87, 7.93]]


def test_a_trend_is_pages() -> None:
    t = trend([36, 54, 72, 108, 144], COTTON)
    ranks = [stats.rankdata(row) for row in COTTON]
    statistic = sum((np.arange(1, 6) * row).sum() for row in ranks)
    orders = [sum(i * r for i, r in zip(range(1, 6), order, strict=True)) for order in itertools.permutations(range(1, 6))]
    null = np.convolve(np.convolve(counts := np.bincount(orders), counts), counts)
    assert t.p_rising == pytest.approx(null[int(statistic) :].sum() / null.sum())
    assert t.p_rising < 0.01 < 0.9 < t.p_falling


def test_a_trends_slope_is_that_of_least_squares_in_each_seed() -> None:
    x = np.array([0.03, 0.1, 0.5])
    y = np.random.default_rng(2).normal(0, 1, (4, 3))
    expected = mean_interval([stats.linregress(x, row).slope for row in y])
    assert astuple(trend(x.tolist(), y.tolist()).slope) == pytest.approx(astuple(expected))


def test_the_power_of_a_paired_test_is_statsmodels() -> None:
    for n, effect in ((2, 3.0), (3, 2.0), (5, 1.5), (10, 0.4), (30, 0.0)):
        expected = TTestPower().power(effect, n, 0.05)
        assert power(effect * 0.02, 0.02, n) == pytest.approx(expected, abs=2e-4)
    assert power(1.0, 1.0, 1) == 0.0


def test_what_seeds_can_see_and_how_many_are_needed_agree_with_statsmodels() -> None:
    assert detectable(0.02, 5) == pytest.approx(0.02 * TTestPower().solve_power(None, 5, 0.05, 0.8), rel=1e-3)
    # Cohen's (1988) example size: d = 0.5 needs 34 pairs for a power of 0.8
    assert seeds_needed(2.0, difference=1.0) == 34
    assert seeds_needed(2.0, difference=1e-6) is None
    assert (detectable(0.02, 1), detectable(0.0, 3), seeds_needed(0.0, difference=1.0)) == (None, 0.0, 2)


@settings(max_examples=60)
@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 30), st.floats(1e-4, 0.2))
def test_power_is_a_chance_for_any_numbers(difference: float, sd: float, n: int, alpha: float) -> None:
    assert alpha - 1e-4 <= power(difference, sd, n, alpha) <= 1.0
    seen = detectable(sd, n, alpha)
    assert seen is not None
    assert power(seen, sd, n, alpha) == pytest.approx(0.8)


def test_the_power_of_equivalence_is_what_simulation_gives() -> None:
    rng = np.random.default_rng(5)
    for n, mean, sd in ((3, 0.0, 0.02), (5, 0.02, 0.02), (10, 0.01, 0.03)):
        draws = rng.normal(mean, sd, (20_000, n))
        half = stats.t.ppf(0.95, n - 1) * draws.std(axis=1, ddof=1) / math.sqrt(n)
        found = (draws.mean(axis=1) - half > -0.05) & (draws.mean(axis=1) + half < 0.05)
        assert power_of_equivalence(-0.05, 0.05, mean, sd, n) == pytest.approx(found.mean(), abs=0.012)
    needed = seeds_needed(0.03, bounds=(-0.05, 0.05, 0.0))
    assert needed is not None
    assert (
        power_of_equivalence(-0.05, 0.05, 0.0, 0.03, needed) >= 0.8 > power_of_equivalence(-0.05, 0.05, 0.0, 0.03, needed - 1)
    )


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_cover_what_they_promise(n: int) -> None:
    draws = np.random.default_rng(n).normal(1.0, 0.3, (6000, n))
    inside = [e.lower <= 1.0 <= e.upper for e in map(mean_interval, draws) if e.lower is not None and e.upper is not None]
    assert 0.93 <= np.mean(inside) <= 0.97


@pytest.mark.parametrize("n", [3, 5, 10])
def test_a_family_without_any_effect_gives_no_more_findings_than_alpha(n: int) -> None:
    rng = np.random.default_rng(n)
    found = 0
    for _ in range(1500):
        # one baseline, nine variants, paired by what their seeds share
        runs = rng.normal(2.0, 0.1, (1, n)) + rng.normal(0.0, 0.02, (10, n))
        baseline = dict(enumerate(runs[0]))
        p = [paired_difference(dict(enumerate(run)), baseline).p for run in runs[1:]]
        found += min(holm([value for value in p if value is not None])) < 0.05
    # three standard errors of 5 % over 1500 families
    assert found / 1500 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1500)


@pytest.mark.parametrize("n", [3, 5])
def test_a_trend_is_not_seen_where_there_is_none(n: int) -> None:
    rng = np.random.default_rng(n)
    seen = [trend([1, 2, 3, 4], rng.normal(0, 1, (n, 4)).tolist()).p_rising < 0.05 for _ in range(400)]
    assert np.mean(seen) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_what_lies_on_the_margin_is_rarely_called_equivalent(n: int) -> None:
    draws = np.random.default_rng(n).normal(0.02, 0.01, (3000, n))
    p = [within(row, -0.02, 0.02) for row in draws.tolist()]
    assert np.mean([value < 0.05 for value in p if value is not None]) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 3000)
