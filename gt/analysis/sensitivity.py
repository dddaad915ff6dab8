"""How a claim would come out at each value of what its cells were tuned over, where both were tried at it.

This describes what tuning saw, on seeds that judge nothing: it decides no claim. It says what a study of all cells at one value
would have found, and so in which range of values a claim holds.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from statistics import fmean

from gt.analysis.aggregate import MAIN
from gt.analysis.claims import Claim, Places, comparisons
from gt.analysis.predicates import region
from gt.analysis.values import Values

# What is known of the runs that tune.
METRICS = ("val/loss", MAIN)


@dataclass(frozen=True)
class AtValue:
    """Two cells that a claim compares, both at one value of a setting: the mean difference, or ratio, over tuning's seeds, and
    whether it is what the claim asks for.
    """

    a: str
    b: str
    setting: str
    value: float
    estimate: float
    holds: bool


def sensitivity(places: Places, claim: Claim, values: Values) -> list[AtValue]:
    """Of each comparison of two tuned cells. Of several settings the others are at the values that suit each cell best."""
    tunings = {own.cell: own for own in values.plan.tunings}
    found = []
    compared = [(predicate, *own) for predicate in claim.predicate for own in comparisons(predicate)]
    for predicate, a, b, scale in compared:
        if b is None:
            continue
        left, right = places.find(a, predicate.metric, values.best), places.find(b, predicate.metric, values.best)
        if not left or not right or left.metric != right.metric or left.metric not in METRICS:
            continue
        claimed, ratio = region(predicate), scale == "ratio"
        one, other = tunings.get(left.cell.id), tunings.get(right.cell.id)
        for setting in [path for path in one.scales if path in other.scales] if one and other else []:
            first, second = (_curve(values, own.cell.id, left.metric, setting) for own in (left, right))
            for value in sorted(first.keys() & second.keys()):
                estimate = _compared(first[value], second[value], ratio)
                if estimate is not None:
                    holds = claimed.low <= estimate <= claimed.high
                    found.append(AtValue(left.cell.variant, right.cell.variant, setting, value, estimate, holds))
    return found


def _curve(values: Values, cell: str, metric: str, setting: str) -> dict[float, dict[int, float]]:
    """By value of a setting what each seed gave, infinite where it diverged: with the others at what gave the lowest mean."""
    found: dict[float, dict[int, float]] = {}
    for point, seeds in values.trials(cell, metric).items():
        value = json.loads(point)[setting]
        if value not in found or fmean(seeds.values()) < fmean(found[value].values()):
            found[value] = seeds
    return found


def _compared(a: dict[int, float], b: dict[int, float], ratio: bool) -> float | None:
    """The mean difference, or geometric mean ratio, over seeds that both have; None without any, and where both diverged."""
    seeds = a.keys() & b.keys()
    left, right = (math.fsum(math.log(own[seed]) if ratio else own[seed] for seed in seeds) for own in (a, b))
    if not seeds or (math.isinf(left) and math.isinf(right)):
        return None
    mean = (left - right) / len(seeds)
    return math.exp(mean) if ratio and mean < 700 else mean
