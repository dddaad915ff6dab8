"""A synthetic study that has been aggregated, drawn and rendered once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import records
from shared import TEMPLATES, make

from gt.report.figures import draw
from gt.report.render import render


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    plan = records.plan(seeds=3)
    plan["title"] = "Fusions <b>bold</b> & more"
    records.write_runs(plan, root / "runs")
    folder = make(root, plan)
    draw(folder)
    render(folder, TEMPLATES)
    return folder


@pytest.fixture
def plan(study: Path) -> dict[str, Any]:
    return dict(json.loads((study / "plan.json").read_text()))
