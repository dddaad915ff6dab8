"""Looks by the workflow: the cells of claims without a decision get further seeds, and the others none."""

from __future__ import annotations

import json
import re
from typing import Any

import pandas as pd
import pytest
import yaml
from checkouts import Checkout

from gt.artefacts import read_plan
from gt.records import read_json

STUDY: dict[str, Any] = {
    "variants": ["GPT-2", "GF", "HY"],
    "evaluations": [],
    "seeds": {"looks": [2, 3], "futility": 0.0},
}
# Two seeds that have nothing but rounding in common cannot decide so narrow a margin, but that a loss is above -1000.
CLAIMS = {
    name: {"title": name, "sentence": "s", "source": "x", "study": "tiny", "seeds": 2, "predicate": [predicate]}
    for name, predicate in {
        "open": {"test": "equivalence", "metric": "val/loss", "a": "GPT-2", "b": "GF", "margin": 1e-9},
        "sure": {"test": "threshold", "metric": "val/loss", "a": "HY", "above": -1000},
    }.items()
}
UP_TO_CLAIMS = ("--", "results/studies/tiny/claims.json")


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose study was looked at after two seeds, and after three, up to its verdicts."""
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    checkout.study(**STUDY)
    for file in checkout.folder.glob("config/claims/*"):
        file.unlink()
    (checkout.folder / "config/claims/tiny.yaml").write_text(yaml.safe_dump(CLAIMS))
    result = checkout.snakemake(*UP_TO_CLAIMS)
    assert result.returncode == 0, result.stderr[-3000:]
    assert len(re.findall(r"^checkpoint look:|^localcheckpoint look:", result.stderr, re.MULTILINE)) == 1
    return checkout


def test_only_cells_of_a_claim_without_a_decision_get_more_seeds(looked: Checkout) -> None:
    folder = looked.folder / "results/studies/tiny"
    (look,) = (read_json(file) for file in folder.glob("looks/*.json"))
    assert look["claims"]["open"]["stopped"] == "open"
    assert look["claims"]["sure"]["stopped"] == "decided"
    cells = {cell.variant: cell for cell in read_plan(folder / "plan.json").cells}
    assert look["going_on"] == sorted([cells["GF"].id, cells["GPT-2"].id])
    assert {variant: list(cell.runs) for variant, cell in cells.items()} == {"GPT-2": [0, 1, 2], "GF": [0, 1, 2], "HY": [0, 1]}
    runs = pd.read_parquet(folder / "runs.parquet")
    assert set(runs["status"]) == {"completed"}
    assert len(runs) == 8


def test_each_claim_is_judged_as_at_the_look_at_which_it_stopped(looked: Checkout) -> None:
    judged = json.loads((looked.folder / "results/studies/tiny/claims.json").read_text())
    found = {own["claim"]: (own["stopped"], own["seeds"]) for own in judged}
    assert found == {"open": ("last", 3), "sure": ("decided", 2)}


def test_nothing_is_left_to_do_and_another_claim_is_looked_at_anew(looked: Checkout) -> None:
    assert looked.planned(*UP_TO_CLAIMS) == {}
    copy = looked.copy(looked.folder.parent / "another")
    more = {**CLAIMS, "late": {**CLAIMS["open"], "predicate": [{**CLAIMS["open"]["predicate"][0], "a": "HY"}]}}
    (copy.folder / "config/claims/tiny.yaml").write_text(yaml.safe_dump(more))
    assert copy.planned()["look"] == 1
