"""`gt doctor` says what is there and what is missing, on machines where it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gt
from gt.doctor import can_run, examine

ROOT = Path(__file__).parents[1]
FUSION = """
class Tilted:
    \"\"\"Leans to the left.\"\"\"
    name = "{name}"
"""


def lab(folder: Path, **modules: str) -> Path:
    """A project whose package has these modules."""
    (folder / "mylab").mkdir()
    (folder / "pyproject.toml").write_text('[tool.groundthink]\npackage = "mylab"\n')
    (folder / "mylab/__init__.py").touch()
    for name, text in modules.items():
        (folder / f"mylab/{name}.py").write_text(text)
    return folder


def doctor(folder: Path, **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code in a project, and the findings by name; of several of a name the first."""
    result = subprocess.run(
        [sys.executable, "-m", "gt", "doctor", "--json"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stderr == ""
    return result.returncode, {finding["name"]: finding for finding in reversed(json.loads(result.stdout))}


def test_what_is_missing_stops_no_study_and_is_named(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "git").write_text("#!/bin/sh\nexit 1\n")
    (programs / "git").chmod(0o755)
    corpus = "class Diary:\n    name = 'diary'\n    def at_hand(self):\n        return 2_500_000\n"
    folder = lab(tmp_path, fusions="import no_such_package\n" + FUSION.format(name="tilted"), corpora=corpus)
    code, found = doctor(folder, PATH=str(programs), GT_CORPUS_DIR=str(tmp_path / "nowhere"))
    assert code == 0
    assert "does not run" in found["git"]["text"]
    assert found["conda"]["state"] == found["sbatch"]["state"] == "without"
    assert "--use-conda" in found["conda"]["remedy"]
    assert found["GT_CORPUS_DIR"]["text"].endswith("nowhere is no folder")
    assert found["diary"] == {"part": "corpora", "name": "diary", "state": "ok", "text": "2.5 MB at hand", "remedy": ""}
    assert found["mylab"]["state"] == "without"
    assert "fusion tilted: mylab.fusions: ModuleNotFoundError: No module named 'no_such_package'" in found["mylab"]["text"]


def test_a_project_in_which_nothing_can_be_planned_is_an_exit_code(tmp_path: Path) -> None:
    code, found = doctor(lab(tmp_path, fusions=FUSION.format(name="gated")))
    assert code == 1
    assert found["fusions"]["state"] == "missing"
    assert "two components of kind fusion are called 'gated'" in found["fusions"]["text"]


def test_a_machine_that_runs_these_tests_can_run_a_study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf/letters.txt").write_text("Dear")
    monkeypatch.setenv("GT_CORPUS_DIR", str(tmp_path / "shelf"))
    monkeypatch.chdir(ROOT)
    findings = examine()
    found = {finding.name: finding for finding in findings}
    assert can_run(findings)
    assert found["gt"].text == f"{gt.__version__}, a checkout, {ROOT}"
    assert found["GT_CORPUS_DIR"].text.endswith("shelf: letters.txt")
    assert all(finding.remedy for finding in findings if finding.state != "ok")
    assert len(findings) < 60  # lines of a screen
