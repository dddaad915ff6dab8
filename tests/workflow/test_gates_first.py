"""A workflow says what the claims of its study can show before it trains anything, and needs no torch for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from checkouts import Checkout

from gt.study import dumps, load_study

COUNTED = {"test": "threshold", "metric": "n_params", "a": "GF", "above": 10}
NARROW = {"test": "compare", "metric": "val/loss", "a": "GF", "b": "GPT-2", "is": "lower", "margin": 0.01}


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout with claims about its study, and a torch that cannot be imported."""
    own = Checkout(tmp_path / "own")
    about = {"title": "t", "sentence": "s", "source": "x", "study": "tiny", "seeds": 2}
    claims = {"T-1": {**about, "predicate": [COUNTED]}, "T-2": {**about, "predicate": [NARROW], "sd": 0.001}}
    (own.folder / "config/claims/tiny.yaml").write_text(yaml.safe_dump(claims))
    broken = own.folder / "torch"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise RuntimeError('torch is imported')\n")
    return own


def dry_run(checkout: Checkout, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[int, str]:
    checkout.study(**changes)
    monkeypatch.chdir(checkout.folder)
    plan = checkout.folder / "results/studies/tiny/plan.json"
    plan.parent.mkdir(parents=True, exist_ok=True)
    plan.write_text(dumps(load_study("config/studies/tiny.yaml").plan()))  # which is built with torch where it is new
    result = checkout.snakemake("--dry-run", "--quiet")
    return result.returncode, result.stderr


def test_a_dry_run_says_what_claims_can_show_without_torch(planned: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = dry_run(planned, monkeypatch)
    assert code == 0, said
    assert "tiny: 4 runs to train, of which no record says how long they take" in said
    assert "T-1  cannot fail: the number of parameters is counted on the model" in said
    assert "config/claims/tiny.yaml, line " in said
    assert not (planned.folder / "results/runs").exists()


def test_a_study_that_refuses_ends_there_with_the_fix(planned: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = dry_run(planned, monkeypatch, gate="refuse")
    assert code == 2
    assert "not trained, as its `gate: refuse` says" in said
    assert "T-1  cannot fail" in said
