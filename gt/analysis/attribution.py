"""What explains that a claim fails: where it holds under an arm, whether the arm is what makes the difference.

That a claim fails with its own cells and holds with others does not show that the two differ: one may be just decided and the
other just not (Gelman and Stern 2006). What shows it is their interaction, the arm's effect less the claim's own, paired by
seed and tested against zero (a two-sided t-test), adjusted by Holm over the arms of the claim. The effect of a seed is what the
predicate that fails reads: a number, a difference, the logarithm of a ratio, the slope of a trend, a rank correlation. Of
several comparisons that must all hold it is the one that fails, and where one is enough the one by which the arm holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gt.analysis.claims import Claim, Exists
from gt.analysis.predicates import region
from gt.analysis.statistics import adjusted, paired_difference

Json = dict[str, Any]


@dataclass(frozen=True)
class Interaction:
    """An arm's effect less the claim's own, over n seeds that both have, on the scale of the predicate that fails.

    towards: whether it is in the direction in which the claim would hold. p, p_adjusted: None where there is no test, and
    reason says why.
    """

    n: int = 0
    difference: float | None = None
    towards: bool = False
    p: float | None = None
    p_adjusted: float | None = None
    reason: str = ""

    def shown(self, alpha: float) -> bool:
        """Whether the arm makes the difference."""
        return self.towards and self.p_adjusted is not None and self.p_adjusted < alpha


def interactions(claim: Claim, own: Json, arms: Mapping[str, Json]) -> dict[str, Interaction]:
    """Of all arms of a claim that was tested: those that have no test count in the family with p = 1."""
    found = {arm: _interaction(claim, own, arms[arm]) for arm in claim.arms if arm in arms}
    found |= {arm: Interaction(reason="it was not judged") for arm in claim.arms if arm not in arms}
    family = adjusted([own.p for own in found.values()])
    return {arm: replace(each, p_adjusted=p) for (arm, each), p in zip(found.items(), family, strict=True)}


def _interaction(claim: Claim, own: Json, arm: Json) -> Interaction:
    i = own["decides"]
    if not arm["tests"]:
        return Interaction(reason="it has no test")
    if i is None or not len(own["tests"]) == len(arm["tests"]) == len(claim.predicate):
        return Interaction(reason="these verdicts do not say which part decides")
    mine, other, predicate = own["tests"][i], arm["tests"][i], claim.predicate[i]
    part = (other if isinstance(predicate, Exists) else mine)["part"]
    effects = [_effects(test, part) for test in (other, mine)]
    if effects[0] is None or effects[1] is None:
        return Interaction(reason="a ratio of numbers that are not all above zero")
    d = paired_difference(effects[0], effects[1])
    if d.mean is None or d.p is None:
        return Interaction(d.n, reason="no seed changes it" if d.n > 1 else f"the two have {d.n} seeds in common")
    claimed, estimate = region(predicate), mine["estimate"]
    up = math.isinf(claimed.high) or (estimate is not None and estimate < claimed.low)
    return Interaction(d.n, d.mean, (d.mean > 0) == up, d.p)


def _effects(test: Json, part: int) -> dict[int, float] | None:
    """By seed, those that have one; None where a ratio has no logarithm."""
    values = test["parts"][part] if test["parts"] else test["by_seed"]
    found = {int(seed): float(value) for seed, value in values.items() if value is not None}
    if test["scale"] != "ratio":
        return found
    return {seed: math.log(value) for seed, value in found.items()} if all(value > 0 for value in found.values()) else None
