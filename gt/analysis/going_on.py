"""A look at a study's claims while it runs: which are decided, and which cells get more seeds."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from gt.analysis.aggregate import aggregate
from gt.analysis.claims import FAITHFUL
from gt.analysis.verdicts import judge_study
from gt.artefacts import read_plan
from gt.records import write_json


def look(plan: Path, runs: Path, claims: Path, out: Path, begun: datetime | None = None) -> int:
    """Write what becomes of each claim, and the cells that go on: those that a claim without a decision reads.

    begun: when the first run of any study was. Returns how many cells go on.
    """
    with TemporaryDirectory() as folder:
        shutil.copy(plan, Path(folder) / "plan.json")
        aggregate(read_plan(plan), runs, Path(folder))
        judged = [own for own in judge_study(Path(folder), claims, begun) if own.arm == FAITHFUL]
    going_on = sorted({cell for own in judged if own.stopped == "open" for cell in own.cells})
    became = {own.claim: {"verdict": own.verdict, "stopped": own.stopped, "seeds": own.seeds} for own in judged}
    write_json(out, {"look": read_plan(plan).next_look, "claims": became, "going_on": going_on})
    return len(going_on)
