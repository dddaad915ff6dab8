"""Statistics over seeds, against scipy, statsmodels and examples that can be worked by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from gt.analysis.statistics import (
    benjamini_hochberg,
    equivalence,
    holm,
    mean_interval,
    paired_difference,
    sign_flip_p,
    smallest_sign_flip_p,
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


def test_differences_without_spread_are_certain() -> None:
    assert paired_difference({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}).p == 1.0
    assert paired_difference({0: 1.5, 1: 2.5}, {0: 1.0, 1: 2.0}).p == 0.0


@settings(max_examples=40, deadline=None)
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


def test_equivalence_without_spread() -> None:
    same = {0: 2.0, 1: 2.0}
    assert equivalence(same, same, 0.01).p == 0.0
    assert equivalence({0: 4.0, 1: 4.0}, same, 0.01).p == 1.0


@settings(max_examples=40, deadline=None)
@given(p_values)
def test_holm_is_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(list(multipletests(p, method="holm")[1]))


@settings(max_examples=40, deadline=None)
@given(p_values)
def test_benjamini_hochberg_is_scipys(p: list[float]) -> None:
    assert benjamini_hochberg(p) == pytest.approx(list(stats.false_discovery_control(p)))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == benjamini_hochberg([]) == []


def test_t_intervals_cover_what_they_promise() -> None:
    draws = np.random.default_rng(0).normal(1.0, 0.3, (2000, 3))
    inside = [e.lower <= 1.0 <= e.upper for e in map(mean_interval, draws) if e.lower is not None and e.upper is not None]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)
