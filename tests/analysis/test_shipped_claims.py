"""The claims of this repository, judged on made-up numbers for all that they read: each must come to a verdict."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gt import artefacts
from gt.analysis.claims import Cell, Places, cells_of, load_arms, load_claims
from gt.analysis.verdicts import judge, overview
from gt.artefacts import Plan
from gt.registry import metric as registered
from gt.study import load_study

ROOT = Path(__file__).parents[2]
CLAIMS = ROOT / "config/claims"


def read_by_claims(plans: dict[str, Plan]) -> dict[str, set[tuple[str, str, float | None]]]:
    """Study -> every (cell, metric, place) that a claim or one of its arms reads there, tuning cells included."""
    read: dict[str, set[tuple[str, str, float | None]]] = {name: set() for name in plans}
    arms = load_arms(CLAIMS)
    for name, claim in load_claims(CLAIMS).items():
        for arm in [None, *(arms[own] for own in claim.arms)] if claim.study else []:
            places = Places(name, claim, plans, arm)
            for cell, metric in (pair for predicate in claim.predicate for pair in cells_of(predicate)):
                for own in candidates(places, cell):
                    read[places.study] |= {(own.id, cell.metric or metric, cell.at), (own.id, metric, cell.at)}
                read[places.study] |= {(own.id, "val/loss", None) for own in places.tuning(cell)}
    return read


def candidates(places: Places, cell: Cell) -> list[artefacts.Cell]:
    """All cells that a cell may turn out to be, whatever is tuned."""
    found: list[artefacts.Cell] = []
    place = places.find(cell, "val/loss", lambda cells, _tuning: found.extend(cells) or cells[:1])
    return found or ([place.cell] if place else [])


def write(folder: Path, plan: Plan, read: set[tuple[str, str, float | None]], rng: np.random.Generator) -> None:
    """A study's tables with a number above zero for all that is read."""
    folder.mkdir(parents=True)
    artefacts.write(folder / "plan.json", plan)
    tables: dict[str, list[dict[str, Any]]] = {"runs": [], "curves": [], "probes": [], "evaluations": []}
    for cell in plan.cells:
        for seed in cell.runs:
            key = {"cell": cell.id, "seed": seed}
            run: dict[str, Any] = {**key, "status": "completed", "started": "2999-01-01T00:00:00+00:00"}
            # A ladder's sizes rise with the width, whatever is made up.
            run["n_params_non_embedding"] = float(plan.spec(cell).model.d_model)
            for name, metric, at in sorted(read, key=str):
                if name == cell.id:
                    value = float(rng.uniform(0.1, 3.0))
                    match registered(metric).table:
                        case "runs":
                            run[metric] = value + run.get(metric, 0.0)
                        case "curves":
                            tables["curves"].append({**key, "step": at, metric: value})
                        case "probes":
                            tables["probes"].append({**key, "name": metric, "layer": None, "value": value})
                        case _:
                            tables["evaluations"].append({**key, "metric": metric, "at": at, "value": value})
            tables["runs"].append(run)
    for name, rows in tables.items():
        if rows:
            pd.DataFrame(rows).to_parquet(folder / f"{name}.parquet")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A folder for each study that a claim is about, with its tables judged."""
    plans = {file.stem: load_study(file).plan() for file in sorted((ROOT / "config/studies").glob("*.yaml"))}
    root, rng = tmp_path_factory.mktemp("studies"), np.random.default_rng(0)
    read = {name: own for name, own in read_by_claims(plans).items() if own}
    for name, own in read.items():
        write(root / name, plans[name], own, rng)
        judge(root / name, CLAIMS)
    return [root / name for name in read]


def test_every_claim_comes_to_a_verdict(studies: list[Path]) -> None:
    rows = overview(CLAIMS, studies)
    assert {row.id for row in rows if row.verdict == "not yet run"} == set()
    assert {row.id: row.judgement["reason"] for row in rows if row.judgement and row.judgement["reason"]} == {}
    assert {row.id for row in rows if row.verdict == "not testable"} == {
        name for name, claim in load_claims(CLAIMS).items() if claim.not_testable
    }


def test_a_sentence_tells_what_it_compares_apart(studies: list[Path]) -> None:
    """Not: GF-MH − GF-MH > 0, of two corpora."""
    words = [test["words"] for row in overview(CLAIMS, studies) if row.judgement for test in row.judgement["tests"]]
    assert len(words) > 100
    assert [own for own in words if re.search(r": (.+) [−/] \1 (?:[<>]|between)", own)] == []
    assert any("GF-MH on tinyshakespeare − GF-MH on wikitext-2 > 0" in own for own in words)


def test_every_arm_of_a_claim_is_judged(studies: list[Path]) -> None:
    for row in overview(CLAIMS, studies):
        assert set(row.arms) == set(row.claim.arms), row.id
        assert [own["reason"] for own in row.arms.values() if own["reason"]] == [], row.id
