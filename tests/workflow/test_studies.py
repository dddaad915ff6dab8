"""Studies that are shipped can be planned by the workflow, several at once; tests/test_study.py plans each of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from gt.study import load_study

ROOT = Path(__file__).parents[2]
# A text at a time and a task, one size and several; two share runs.
STUDIES = [ROOT / f"config/studies/{name}.yaml" for name in ("smoke", "v4_char", "gates", "recall_mqar", "scale")]


def test_several_shipped_studies_dry_run_at_once_and_share_their_runs(tmp_path: Path) -> None:
    runs = {run for path in STUDIES for run in load_study(path).plan().runs}
    names = ",".join(path.stem for path in STUDIES)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--directory", str(tmp_path)]
    result = subprocess.run([*command, "--config", f"study={names}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    counts = dict(line.split() for line in result.stdout.splitlines() if len(line.split()) == 2)
    assert int(counts["train"]) == int(counts["evaluate"]) == len(runs)
    assert int(counts["report"]) == len(STUDIES)
