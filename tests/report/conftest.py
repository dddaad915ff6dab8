"""A synthetic study that has been aggregated, drawn and rendered once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import records
from shared import make, report, write_claims

from gt.report.gallery import draw


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    plan = records.plan(seeds=3)
    plan["title"] = "Fusions <b>bold</b> & more"
    records.write_runs(plan, root / "runs")
    folder = make(root, plan)
    draw(folder)
    report(folder, write_claims(root / "claims"))
    return folder


@pytest.fixture
def plan(study: Path) -> dict[str, Any]:
    return dict(json.loads((study / "plan.json").read_text()))
