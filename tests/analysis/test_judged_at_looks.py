"""Claims of a study with looks, judged from tables whose numbers are made up."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from test_verdicts import compare, write_claims, write_study

from gt.analysis.sequential import Design
from gt.analysis.verdicts import Judgement, judge_study
from gt.artefacts import Looks, read_plan, write

SEEDS = (5, 8, 12)
DESIGN = Design(SEEDS)


def drawn(mean: float, spread: float, seed: int) -> list[float]:
    return list(np.random.default_rng(seed).normal(mean, spread, SEEDS[-1]))


BASE = drawn(2.0, 0.01, 0)
CELLS = {
    "GF": BASE,
    "far": [own + 0.3 + more for own, more in zip(BASE, drawn(0, 0.02, 1), strict=True)],
    "near": [own + 0.02 + more for own, more in zip(BASE, drawn(0, 0.02, 2), strict=True)],
    "same": [own + more for own, more in zip(BASE, drawn(0, 0.002, 3), strict=True)],
    "vague": [own + more for own, more in zip(BASE, drawn(0, 0.1, 4), strict=True)],
}


def judged(folder: Path, seeds: dict[str, int] | int = 12, futility: float = 0.0, **predicates: Any) -> dict[str, Judgement]:
    """The claims of a study with looks of which each cell has so many seeds."""
    of = {name: seeds if isinstance(seeds, int) else seeds.get(name, 12) for name in CELLS}
    study = write_study(folder / "s", {name: values[: of[name]] for name, values in CELLS.items()})
    plan = read_plan(study / "plan.json")
    looks = Looks(looks=list(SEEDS), futility=futility)
    write(study / "plan.json", plan.model_copy(update={"looks": looks}))
    return {own.claim: own for own in judge_study(study, write_claims(folder / "claims", **predicates))}


def differences(a: str, b: str, n: int) -> np.ndarray:
    return np.array(CELLS[a][:n]) - np.array(CELLS[b][:n])


def test_a_claim_stops_at_the_first_look_that_decides_it_whatever_has_run_since(tmp_path: Path) -> None:
    own = judged(tmp_path, C=compare("GF", "far"))["C"]
    assert (own.verdict, own.stopped, own.seeds) == ("supported", "decided", 5)
    (test,) = own.tests
    p = stats.ttest_rel(CELLS["GF"][:5], CELLS["far"][:5]).pvalue
    assert test.n == 5
    assert test.p_support == pytest.approx(2 * DESIGN.repeated([p / 2], (5,)))
    assert test.p_support > p  # early looks have little to spend
    d, critical = differences("GF", "far", 5), DESIGN.critical(0.025)[0]
    reach = stats.t.isf(critical, 4) * d.std(ddof=1) / math.sqrt(5)
    assert (test.lower, test.upper) == pytest.approx((d.mean() - reach, d.mean() + reach))


def test_one_that_is_not_decided_goes_on_and_has_the_repeated_p_of_all_looks(tmp_path: Path) -> None:
    own = judged(tmp_path, C=compare("GF", "near"))["C"]
    p = [stats.ttest_rel(CELLS["GF"][:n], CELLS["near"][:n]).pvalue / 2 for n in SEEDS]
    k = SEEDS.index(own.seeds or 0)
    assert own.p == pytest.approx(2 * DESIGN.repeated(p[: k + 1], SEEDS[: k + 1]))
    assert (own.stopped == "decided") == (own.p < 0.05)
    assert k > 0
    assert all(2 * DESIGN.repeated(p[: i + 1], SEEDS[: i + 1]) >= 0.05 for i in range(k))


def test_with_five_seeds_it_is_open_and_the_cells_that_it_reads_are_to_go_on(tmp_path: Path) -> None:
    found = judged(tmp_path, 5, C=compare("GF", "near"), D=compare("GF", "far"))
    assert [(own.verdict, own.stopped) for own in found.values()] == [("inconclusive", "open"), ("supported", "decided")]
    assert found["C"].cells == ["GF.c.char", "near.c.char"]


def test_one_that_all_seeds_would_not_decide_stops(tmp_path: Path) -> None:
    own = judged(tmp_path, futility=0.2, C=compare("GF", "vague", margin=0.001))["C"]
    assert (own.verdict, own.stopped, own.seeds) == ("inconclusive", "futile", 5)
    again = judged(tmp_path / "again", futility=0.0, C=compare("GF", "vague", margin=0.001))["C"]
    assert (again.verdict, again.stopped, again.seeds) == ("inconclusive", "last", 12)


def test_what_no_seed_changes_stops_and_is_in_no_family(tmp_path: Path) -> None:
    """So that nothing is trained for a count, and the others are decided as without it."""
    count = compare("GF", "far", metric="n_params")
    alone = judged(tmp_path / "alone", 5, C=compare("GF", "near"), D=compare("GF", "far"))
    found = judged(tmp_path / "beside", 5, C=compare("GF", "near"), D=compare("GF", "far"), N=count)
    assert (found["N"].verdict, found["N"].stopped, found["N"].p) == ("not testable", "constant", None)
    assert [(found[name].stopped, found[name].p_adjusted) for name in alone] == [
        (own.stopped, own.p_adjusted) for own in alone.values()
    ]


def test_equivalence_is_found_at_a_look_too(tmp_path: Path) -> None:
    own = judged(tmp_path, C=compare("GF", "same", margin=0.05))["C"]
    assert (own.verdict, own.stopped, own.seeds) == ("equivalent", "decided", 5)
    tost = max(
        stats.ttest_1samp(differences("GF", "same", 5), -0.05, alternative="greater").pvalue,
        stats.ttest_1samp(differences("GF", "same", 5), 0.05, alternative="less").pvalue,
    )
    assert own.p_equivalent == pytest.approx(DESIGN.repeated([tost], (5,)))


def test_tests_of_ranks_share_what_is_spent(tmp_path: Path) -> None:
    cells = ["GF", "near", "far"]
    own = judged(tmp_path, C={"test": "trend", "metric": "val/loss", "cells": cells, "is": "rising"})["C"]
    p = []
    for n in SEEDS[: SEEDS.index(own.seeds or 0) + 1]:
        table = np.array([CELLS[name][:n] for name in cells]).T
        p.append(stats.page_trend_test(table).pvalue)
    assert own.p == pytest.approx(2 * DESIGN.repeated_of_any(p))


def test_several_parts_must_each_hold_at_some_look(tmp_path: Path) -> None:
    both = judged(tmp_path, C=compare("GF", ["far", "near"]))["C"]
    one = judged(tmp_path / "one", C=compare("GF", "near"))["C"]
    assert both.seeds is not None and one.seeds is not None
    assert both.seeds >= one.seeds


def test_a_cell_that_was_never_run_leaves_its_claim_unrun(tmp_path: Path) -> None:
    own = judged(tmp_path, {"far": 3}, C=compare("GF", "far"))["C"]
    assert own.verdict == "not yet run"
    assert own.missing == ["far.c.char: 3 of 5 seeds"]
