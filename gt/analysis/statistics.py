"""Statistics for few seeds. The unit of every number here is one seed.

Differences are paired: two variants with the same seed saw the same batches in the same order, so seed i of one is compared
with seed i of the other. Intervals are Student's t, which keep their coverage at three seeds, where percentile bootstraps
cover 75 % instead of 95 %. One seed gives no interval: None, never a width of zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

# 2^n sign patterns are enumerated up to this n.
EXACT_SEEDS = 20


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

    p: paired t-test. p_sign_flip: exact, over all 2^n sign patterns; None above `EXACT_SEEDS`. None below two pairs.
    """

    n: int
    mean: float | None
    sd: float | None
    lower: float | None
    upper: float | None
    p: float | None
    p_sign_flip: float | None


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests on the paired log ratio of a to b, for a margin m: is a / b between 1 - m and 1 + m?

    ratio: geometric mean of a / b, with the (1 - 2 alpha) interval whose lying inside the margin is the test.
    p: the larger of the two one-sided p values. verdict, at alpha:
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
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * sd / math.sqrt(n)
    return Estimate(n, mean, sd, mean - half, mean + half)


def paired_difference(a: Mapping[int, float], b: Mapping[int, float], confidence: float = 0.95) -> Difference:
    """a - b over the seeds that both have. a, b: seed -> value."""
    d = _finite([a[seed] - b[seed] for seed in _common(a, b)])
    e = mean_interval(d.tolist(), confidence)
    if e.n < 2:
        return Difference(e.n, e.mean, None, None, None, None, None)
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


def smallest_sign_flip_p(n: int) -> float:
    """The smallest p that `sign_flip_p` can give with n seeds: 0.05 is out of reach below 6."""
    return 2.0 ** (1 - n)


def equivalence(a: Mapping[int, float], b: Mapping[int, float], margin: float, alpha: float = 0.05) -> Equivalence:
    """TOST over the seeds that both have (Schuirmann 1987; Berger and Hsu 1996). Values must be above zero."""
    if not 0 < margin < 1:
        raise ValueError(f"margin {margin} must be between 0 and 1")
    log_ratio = _finite([math.log(a[seed] / b[seed]) for seed in _common(a, b)])
    e = mean_interval(log_ratio.tolist(), 1 - 2 * alpha)
    ratio = math.exp(e.mean) if e.mean is not None else None
    if e.mean is None or e.lower is None or e.upper is None:
        return Equivalence(e.n, margin, ratio, None, None, None, "inconclusive")
    low, high = math.log(1 - margin), math.log(1 + margin)
    p = max(_one_sided(log_ratio, low, "greater"), _one_sided(log_ratio, high, "less"))
    if low < e.lower and e.upper < high:
        seen = _t_test(log_ratio) < alpha
        verdict = ("lower" if e.mean < 0 else "higher") + " within margin" if seen else "equivalent"
    else:
        verdict = "different" if e.upper < low or e.lower > high else "inconclusive"
    return Equivalence(e.n, margin, ratio, math.exp(e.lower), math.exp(e.upper), p, verdict)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p values: the chance of one false positive among all stays below what is asked for."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's (1995) adjusted p values: the expected share of false positives among what is found."""
    order = sorted(range(len(p)), key=lambda i: p[i], reverse=True)
    adjusted, smallest = [0.0] * len(p), 1.0
    for rank, i in enumerate(order):
        smallest = min(smallest, p[i] * len(p) / (len(p) - rank))
        adjusted[i] = smallest
    return adjusted


def _common(a: Mapping[int, float], b: Mapping[int, float]) -> list[int]:
    return sorted(set(a) & set(b))


def _finite(values: Sequence[float]) -> np.ndarray:
    x = np.asarray(values, dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError("values must be finite; a diverged run has no value")
    return x


def _t_test(d: np.ndarray) -> float:
    """Two-sided p of mean zero. Differences without any spread are certain: 0, or 1 where they are all zero."""
    if np.ptp(d) == 0:
        return 0.0 if d[0] else 1.0
    return float(stats.ttest_1samp(d, 0.0).pvalue)


def _one_sided(d: np.ndarray, bound: float, alternative: str) -> float:
    if np.ptp(d) == 0:
        return 0.0 if (d[0] > bound) == (alternative == "greater") and d[0] != bound else 1.0
    return float(stats.ttest_1samp(d, bound, alternative=alternative).pvalue)
