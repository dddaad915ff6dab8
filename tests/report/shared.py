"""What the tests of the report share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import records

from gt.analysis.aggregate import aggregate

TEMPLATES = Path(__file__).parents[2] / "report_templates"


def make(root: Path, plan: dict[str, Any]) -> Path:
    """All that a report is made of, from records in `root/runs`. Returns the study's folder."""
    folder = root / "study"
    records.write(folder / "plan.json", plan)
    aggregate(plan, root / "runs", folder)
    return folder
