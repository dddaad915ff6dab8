"""The study that shows how verdicts are come by: it plans, its claims read, and its gates say what they should."""

from __future__ import annotations

from pathlib import Path

import pytest

from gt.analysis.claims import check_planned, load_arms, load_claims
from gt.analysis.gates import Gate, foreseen
from gt.analysis.registration import history
from gt.artefacts import Plan
from gt.rungs import FEWEST, arms
from gt.study import load_study

ROOT = Path(__file__).parents[1]
CLAIMS = ROOT / "config/claims"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_study(ROOT / "config/studies/decide.yaml").plan()


def test_every_cell_is_tuned_and_looked_at_and_the_ladder_has_rungs_enough(plan: Plan) -> None:
    assert {own.cell for own in plan.tunings} == {cell.id for cell in plan.cells}
    assert plan.looks is not None and plan.ladder is not None
    assert {len(cell.runs) for cell in plan.cells} == {plan.looks.looks[0]}
    # Two arms have all rungs; the others are at one width.
    assert sorted(len(arm.cells) for arm in arms(plan.cells, plan.ladder) if len(arm.cells) >= FEWEST) == [4, 4]


def test_its_claims_are_registered_as_they_stand_and_can_be_judged(plan: Plan) -> None:
    claims = load_claims(CLAIMS)
    check_planned(claims, load_arms(CLAIMS), {plan.study: plan})
    entered = history(CLAIMS)
    about = {name: claim for name, claim in claims.items() if claim.study == plan.study}
    assert len(about) == 6
    assert all(entered[name][-1].sha256 == claim.sha256 for name, claim in about.items())


@pytest.fixture(scope="module")
def gates(plan: Plan) -> dict[str, Gate]:
    return {gate.claim: gate for gate in foreseen(load_claims(CLAIMS), plan)}


def test_one_claim_cannot_fail_and_one_cannot_see_what_it_is_about(gates: dict[str, Gate]) -> None:
    faults = {name: [own.kind for own in gate.faults] for name, gate in gates.items() if gate.faults}
    assert faults == {"DEC-4": ["cannot fail"], "DEC-5": ["cannot see"]}


def test_all_other_claims_declare_their_spread_so_that_it_is_known_what_they_see(gates: dict[str, Gate]) -> None:
    others = [sight for gate in gates.values() if not gate.faults for sight in gate.sights]
    assert len(others) == 4
    assert all(sight.detectable is not None for sight in others)
