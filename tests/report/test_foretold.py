"""What was expected of claims, and what became of those that are asked again, beside what came."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import records
from shared import COMMON, make

from gt.analysis.verdicts import judge, overview
from gt.report.foretold import foretold_table
from gt.report.tables import Table

# Of the records' known answers GF is lower than GPT-2, and WS higher.
LOWER = {"test": "compare", "metric": "val/loss", "a": "GF", "b": "GPT-2", "is": "lower"}
CLAIMS: dict[str, dict[str, Any]] = {
    "C-first": {"predicate": [LOWER]},
    "C-turned": {"predicate": [{**LOWER, "is": "higher"}], "again": "C-first", "expected": "supported"},
    "C-stays": {"predicate": [LOWER], "again": "C-first", "expected": "supported"},
    "C-alone": {"predicate": [LOWER], "expected": "inconclusive"},
}


def table(root: Path, *names: str) -> Table | None:
    plan = records.plan(seeds=4, variants={"GPT-2": 0.0, "GF": 0.0, "WS": 0.0}, tokenizers=("char",))
    records.write_runs(plan, root / "runs", troubled=False)
    own = {name: {**COMMON, "title": name, "study": "synthetic", "family": name, **CLAIMS[name]} for name in names}
    (root / "claims").mkdir()
    (root / "claims/claims.yaml").write_text(json.dumps(own))
    folder = make(root, plan)
    judge(folder, root / "claims")
    return foretold_table(overview(root / "claims", [folder]))


def test_each_verdict_stands_beside_what_was_expected_and_what_came_before(tmp_path: Path) -> None:
    made = table(tmp_path, *CLAIMS)
    assert made is not None
    shown = {str(row["id"]): [row[key] for key in ("earlier", "came_then", "expected", "came")] for row in made.rows}
    assert shown == {
        "C-turned": ["C-first", "supported", "supported", "opposite"],
        "C-stays": ["C-first", "supported", "supported", "supported"],
        "C-alone": [None, None, "inconclusive", "supported"],
    }
    assert "a verdict was expected of 3 claims: 1 came so." in made.caption
    assert "Of 2 claims that ask an earlier one again, of other runs, 1 came to another verdict." in made.caption


@pytest.mark.parametrize("name", ["C-first", "C-alone"])
def test_without_earlier_claims_there_is_nothing_to_set_beside(tmp_path: Path, name: str) -> None:
    made = table(tmp_path, name)
    if name == "C-first":
        assert made is None
    else:
        assert made is not None
        assert "then" not in [column.key for column in made.columns]
        assert "of 1 claim: 0 came so." in made.caption
        assert "again" not in made.caption
