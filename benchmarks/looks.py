"""What looks save and what they cost: families of claims, drawn, under looks and under fixed numbers of seeds.

    python benchmarks/looks.py

Prints the table of docs/reference/statistics.md: how often anything wrong is said of a family, how many of the differences that
there are it finds, and how many seeds a claim takes. Differences are normal, of a size in units of their spread over seeds.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from gt.analysis.looks import Look, stops
from gt.analysis.sequential import Design, Spending, conditional_power
from gt.analysis.statistics import holm

SEEDS, ALPHA, FUTILITY = (5, 8, 12), 0.05, 0.1
FAMILIES = {
    "1 claim, no difference": [0.0],
    "1 claim, a difference of 1": [1.0],
    "1 claim, a difference of 2": [2.0],
    "10 claims, no difference": [0.0] * 10,
    "10 claims, differences of 0, 1 and 2": [(0.0, 1.0, 2.0)[i % 3] for i in range(10)],
    "40 claims, differences of 0, 1 and 2": [(0.0, 1.0, 2.0)[i % 3] for i in range(40)],
}


def two_sided(d: np.ndarray) -> np.ndarray:
    """(..., seeds) -> p"""
    n = d.shape[-1]
    return 2 * stats.t.sf(np.abs(d.mean(-1)) / d.std(-1, ddof=1) * math.sqrt(n), n - 1)


def looks(d: np.ndarray, spending: Spending) -> tuple[np.ndarray, np.ndarray]:
    """Of differences (claims, seeds): which are found, and the seeds that each took."""
    design, claims = Design(SEEDS, spending), []
    last = design.critical(ALPHA / 2)[-1]
    nominal = np.stack([two_sided(d[:, :n]) / 2 for n in SEEDS], axis=-1)
    repeated = [2 * design.repeated(nominal[:, : k + 1], SEEDS[: k + 1]) for k in range(len(SEEDS))]
    for i, values in enumerate(d):
        hope = [
            max(
                conditional_power(values[:n], SEEDS[-1], last, low=0.0),
                conditional_power(values[:n], SEEDS[-1], last, high=0.0),
            )
            for n in SEEDS[:-1]
        ]
        claims.append([Look((min(1.0, p[i]),), own) for p, own in zip(repeated, [*hope, None], strict=True)])
    found = stops(claims, len(SEEDS), [ALPHA] * len(d), FUTILITY)
    return np.array([own.p[0] < ALPHA for own in found]), np.array([SEEDS[own.look] for own in found])


def main() -> None:
    print("| family | rule | wrong | found | seeds |\n| --- | --- | --- | --- | --- |")
    for name, effects in FAMILIES.items():
        truth, trials = np.array(effects), max(300, 4000 // len(effects))
        drawn = np.random.default_rng(0).standard_normal((trials, len(truth), SEEDS[-1])) + truth[:, None]
        rules = {
            f"{n} seeds": lambda d, n=n: (np.array(holm(list(two_sided(d[:, :n])))) < ALPHA, np.full(len(d), n)) for n in SEEDS
        }
        rules |= {
            "looks, O'Brien and Fleming": lambda d: looks(d, "obrien_fleming"),
            "looks, Pocock": lambda d: looks(d, "pocock"),
        }
        for rule, decide in rules.items():
            results = [decide(d) for d in drawn]
            wrong = np.mean([found[truth == 0].any() for found, _ in results])
            hits = np.mean([found[truth != 0].mean() for found, _ in results]) if truth.any() else math.nan
            error = math.sqrt(wrong * (1 - wrong) / trials)
            share = "" if math.isnan(hits) else f"{100 * hits:.0f} %"
            seeds = np.mean([n for _, n in results])
            print(f"| {name} | {rule} | {100 * wrong:.1f} ± {100 * error:.1f} % | {share} | {seeds:.1f} |")


main()
