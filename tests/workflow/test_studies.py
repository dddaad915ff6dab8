"""Every study that is shipped can be planned by the workflow."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gt.study import load_study

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "config/studies").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_shipped_study_dry_runs(path: Path, tmp_path: Path) -> None:
    plan = load_study(path).plan()
    command = [sys.executable, "-m", "snakemake", "-n", "--directory", str(tmp_path), "--config", f"study={path.stem}"]
    shutil.copytree(ROOT / "config", tmp_path / "config")
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    counts = {
        line.split()[0]: int(line.split()[1])
        for line in result.stdout.splitlines()
        if len(line.split()) == 2 and line.split()[1].isdigit()
    }
    assert counts["train"] == counts["evaluate"] == len(plan.runs)
