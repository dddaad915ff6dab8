"""A predicate at several looks: its tests by the seeds of each, as one whose p values hold for whichever look one stops at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gt.analysis.sequential import Design, conditional_power, interval
from gt.numbers import exponential

if TYPE_CHECKING:
    from gt.analysis.predicates import Test


def at_looks(tests: Sequence[Test | None], design: Design, within: bool) -> Test:
    """The last of some tests, one a look so far, None where a look has too few seeds; with repeated p values and interval.

    within: whether p_support is that of two one-sided tests, as p_equivalent always is; the other p are of both sides.
    """
    last, known = tests[-1], [test for test in tests if test is not None]
    assert last is not None
    joint = len(known) == len(tests) and all(test.joint for test in known)

    def one_sided(p: Sequence[float]) -> float:
        return float(design.repeated(p, [test.n for test in known]) if joint else design.repeated_of_any(p))

    def repeated(name: str, sides: int) -> float | None:
        if getattr(last, name) is None:
            return None
        found = [1.0 if test is None or getattr(test, name) is None else getattr(test, name) for test in tests]
        return min(1.0, sides * one_sided([p / sides for p in found]))

    lower, upper = last.lower, last.upper
    if joint and last.n > 1:
        log = last.scale == "ratio"
        z = [math.log(value) if log else value for value in last.by_seed.values()]
        lower, upper = interval(z, design.critical(0.025)[len(tests) - 1])
        lower, upper = (exponential(lower), exponential(upper)) if log else (lower, upper)
    return replace(
        last,
        lower=lower,
        upper=upper,
        p_support=repeated("p_support", 1 if within else 2) or 0.0,
        p_refute=repeated("p_refute", 2) or 0.0,
        p_equivalent=repeated("p_equivalent", 1),
        p_opposite=repeated("p_opposite", 2),
    )


def hope(test: Test, design: Design, low: float, high: float, margin: float | None, alpha: float) -> tuple[float, float] | None:
    """How likely all seeds find that the mean is between two bounds, and that it is not or that it is within a margin.

    low, high: of the predicate, on the scale of the test; infinite where there is none. margin: on both sides of no difference.
    None at the last look, and where the law of the test there is not known.
    """
    n = design.seeds[-1]
    if not test.joint or not 1 < test.n < n:
        return None
    log = test.scale == "ratio"

    def place(bound: float) -> float:
        return (math.log(bound) if bound > 0 else -math.inf) if log and math.isfinite(bound) else bound

    z, bottom, top = [math.log(v) if log else v for v in test.by_seed.values()], place(low), place(high)
    both, one = design.critical(alpha / 2)[-1], design.critical(alpha)[-1]
    inside = one if math.isfinite(bottom) and math.isfinite(top) else both
    against = [conditional_power(z, n, both, high=bottom)] if math.isfinite(bottom) else []
    against += [conditional_power(z, n, both, low=top)] if math.isfinite(top) else []
    if margin is not None:
        ends = (math.log(1 - margin), math.log(1 + margin)) if log else (-margin, margin)
        against.append(conditional_power(z, n, one, *ends))
    return conditional_power(z, n, inside, bottom, top), max(against)
