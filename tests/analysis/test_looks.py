"""Families of claims that are looked at several times: who stops when, and how often anything wrong is said."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gt.analysis.looks import Look, Stop, stops
from gt.analysis.sequential import Design
from gt.analysis.statistics import holm, shaffer

SEEDS = (5, 8, 12)
MARGIN = 1.5  # in units of the spread of the paired differences
TRIALS = 2000
P = st.floats(0, 1)


@given(st.lists(P, min_size=1, max_size=8))
def test_of_groups_of_one_shaffers_procedure_is_holms(p: list[float]) -> None:
    assert shaffer([[value] for value in p]) == [[value] for value in holm(p)]


@given(st.lists(st.tuples(P, P), min_size=1, max_size=4))
def test_it_is_the_closed_test_over_what_can_be_true_together(p: list[tuple[float, float]]) -> None:
    """A hypothesis is rejected if every set that can be true at once, and has it, is, by Bonferroni within the set.

    Of two in a group one at most is true. Shaffer's procedure never rejects more.
    """
    found = shaffer(p)
    for i, j in itertools.product(range(len(p)), range(2)):
        sets = itertools.product(*([(0,), (1,), ()] if k != i else [(j,)] for k in range(len(p))))
        closed = max(
            min(1.0, sum(map(len, own)) * min(p[k][own[k][0]] for k in range(len(p)) if own[k])) for own in map(tuple, sets)
        )
        assert found[i][j] >= closed - 1e-12


def test_a_claim_stops_where_it_is_decided_or_without_hope_and_the_others_go_on() -> None:
    sure, never, late = Look((1e-4,), 0.9), Look((0.8,), 0.01), [Look((0.3,), 0.5), Look((0.02,), 0.9), Look((0.001,), None)]
    found = stops([[sure] * 3, [never] * 3, late, late[:1], []], 3, [0.05] * 5, 0.1)
    assert [(own.look, own.why) for own in found] == [(0, "decided"), (0, "futile"), (2, "decided"), (0, "open"), (-1, "open")]


def test_at_the_last_look_everything_stops() -> None:
    assert [own.why for own in stops([[Look((0.5,), 0.6), Look((0.4,), None)]], 2, [0.05], 0.1)] == ["last"]


@given(st.lists(st.lists(P, min_size=3, max_size=3), min_size=1, max_size=5))
def test_what_was_decided_stays_decided(p: list[list[float]]) -> None:
    """Repeated p values never rise; after each further look, what was decided before is decided as before."""
    falling = [list(itertools.accumulate(own, min)) for own in p]
    before: list[Stop] = []
    for n in (1, 2, 3):
        claims = [[Look((value,), 1.0 if k < 2 else None) for k, value in enumerate(own[:n])] for own in falling]
        after = stops(claims, 3, [0.05] * len(p), 0.1)
        for old, new in zip(before, after, strict=False):
            assert old.why != "decided" or (new.why, new.look) == ("decided", old.look)
        before = after


def family(effects: list[float], margins: bool, rng: np.random.Generator, design: Design) -> np.ndarray:
    """Repeated p of a family's claims at the looks, (trials, claims, questions, looks): differences of t-tests drawn anew."""
    d = rng.standard_normal((TRIALS, len(effects), SEEDS[-1])) + np.array(effects)[:, None]

    def one_sided(bound: float, sign: int) -> np.ndarray:
        at = [sign * (d[..., :n] - bound) for n in SEEDS]
        p = [stats.t.sf(own.mean(-1) / own.std(-1, ddof=1) * math.sqrt(n), n - 1) for own, n in zip(at, SEEDS, strict=True)]
        looks = [np.stack(p[: k + 1], axis=-1) for k in range(len(SEEDS))]
        return np.stack([design.repeated(own, SEEDS[: k + 1]) for k, own in enumerate(looks)], axis=-1)

    differs = np.minimum(1.0, 2 * np.minimum(one_sided(0.0, 1), one_sided(0.0, -1)))
    questions = [differs, np.maximum(one_sided(-MARGIN, 1), one_sided(MARGIN, -1))] if margins else [differs]
    return np.stack(questions, axis=2)


MIXTURES = {
    "nothing differs": lambda m: [0.0] * m,
    "every other one differs a lot": lambda m: [(-1) ** (i // 2) * 2.0 * (i % 2) for i in range(m)],
    "all are at the margin": lambda m: [MARGIN] * m,
    "of all kinds": lambda m: [(0.0, 0.7, MARGIN, 3.0)[i % 4] for i in range(m)],
}


@pytest.mark.parametrize("spending", ["pocock", "obrien_fleming"])
@pytest.mark.parametrize(("claims", "trials"), [(1, TRIALS), (10, TRIALS), (40, 500)])
@pytest.mark.parametrize("mixture", MIXTURES)
def test_anything_wrong_is_said_in_at_most_one_family_in_twenty(spending: str, claims: int, trials: int, mixture: str) -> None:
    """Wrong: a difference that is not there or the other way round, or the same within a margin that it is not within."""
    effects = MIXTURES[mixture](claims)
    rng = np.random.default_rng([claims, list(MIXTURES).index(mixture), spending == "pocock"])
    p = family(effects, True, rng, Design(SEEDS, spending))[:trials]  # type: ignore[arg-type]
    wrong = 0
    for own in p:
        found = stops([[Look(tuple(claim[:, k]), 1.0) for k in range(3)] for claim in own], 3, [0.05] * claims, 0.0)
        wrong += any(
            (effect == 0 and stop.p[0] < 0.05) or (abs(effect) >= MARGIN and stop.p[1] < 0.05)
            for effect, stop in zip(effects, found, strict=True)
        )
    assert stats.binomtest(wrong, trials, 0.05, "greater").pvalue > 0.005, f"{wrong} of {trials}"
