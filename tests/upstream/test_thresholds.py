"""Every bound of every test, on either side of it."""

from __future__ import annotations

import math

import pytest

from gt.probes.checks import Bounds, Check, judge, verdict
from gt.probes.metrics import METRICS
from gt_upstream.checks import RED_FLAGS, TESTS

TABLES = [(test, table) for test in (*TESTS, *RED_FLAGS) for table in (*test.bounds, *test.control_bounds)]
STEP = 1e-9


def below(bound: float) -> float:
    return bound - STEP * max(abs(bound), 1e-9)


def above(bound: float) -> float:
    return bound + STEP * max(abs(bound), 1e-9)


@pytest.mark.parametrize(("test", "table"), TABLES, ids=[f"{test.name}-{table.source}" for test, table in TABLES])
def test_a_value_at_a_bound_passes_and_beyond_it_does_not(test: Check, table: Bounds) -> None:
    (low, high), (warn_low, warn_high) = table.passes, table.warns
    assert warn_low <= low <= high <= warn_high
    for bound, outside, warns in ((low, below, warn_low), (high, above, warn_high)):
        if math.isfinite(bound):
            assert verdict(table, bound) == "pass"
            assert verdict(table, outside(bound)) == ("fail" if bound == warns else "warning")
    for bound, inside, outside in ((warn_low, above, below), (warn_high, below, above)):
        if math.isfinite(bound):
            assert verdict(table, inside(bound)) != "fail" or low == high
            assert verdict(table, outside(bound)) == "fail"


def test_every_test_judges_a_registered_metric() -> None:
    names = {name for m in METRICS for name in (m.name, *([f"initial/{m.name}"] if m.initial else []))}
    names |= {"state/norm/<branch>/1"}
    for test in (*TESTS, *RED_FLAGS):
        assert test.metric in names
        assert test.control is None or test.control in names


def test_all_of_the_record_s_tests_are_there() -> None:
    named = {test.name for test in TESTS}
    assert named == {*(f"S{i}" for i in range(5)), *(f"G{i}" for i in range(1, 5)), "G3.5", *(f"D{i}" for i in range(1, 5))}


def test_the_worst_branch_decides() -> None:
    test = next(t for t in TESTS if t.name == "D1")
    (outcome,) = judge([test], {"state/growth_8x/r": 2.51, "state/growth_8x/m": 0.91, "state/growth/r": 99.0})
    assert outcome.values == {"state/growth_8x/r": 2.51, "state/growth_8x/m": 0.91}
    assert outcome.verdicts == ("warning", "warning")
    assert judge([test], {"state/growth_8x/r": 11.0, "state/growth_8x/m": 1.0})[0].verdicts == ("fail", "fail")


def test_both_tables_are_applied_and_may_disagree() -> None:
    """The record's code let an R/M of 0.01 pass (flaw F-17)."""
    test = next(t for t in TESTS if t.name == "G4")
    assert judge([test], {"gradient/curve_ratio": 0.01})[0].verdicts == ("fail", "pass")


def test_the_record_s_own_form_is_judged_beside() -> None:
    test = next(t for t in TESTS if t.name == "D3")
    (outcome,) = judge([test], {"ablation/ratio": 1.0, "record/state_norm_share": 0.002})
    assert outcome.verdicts[0] == "pass"
    assert outcome.control_verdicts == ("warning",)


def test_what_a_network_does_not_have_was_not_measured() -> None:
    assert {v for outcome in judge(TESTS, {}) for v in outcome.verdicts} == {"not measured"}
