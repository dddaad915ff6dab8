"""Four lines in an empty folder: install, make a project, run its study, test its components."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from environments import conda
from newcomers import ROOT, Newcomer


@pytest.fixture(scope="module")
def said(newcomer: Newcomer) -> dict[str, str]:
    """What each of the lines says, by its command."""
    return {
        "init": newcomer("gt", "init", "mylab"),
        "snakemake": newcomer("snakemake", "--cores", "all", cwd="mylab"),
        "pytest": newcomer("pytest", "-v", cwd="mylab"),
    }


@pytest.fixture
def lab(newcomer: Newcomer, said: dict[str, str]) -> Path:
    return newcomer.folder / "mylab"


@pytest.fixture
def other(newcomer: Newcomer, lab: Path, tmp_path: Path) -> str:
    """A copy of the finished project, to be changed."""
    shutil.copytree(lab, tmp_path / "mylab")
    return str(tmp_path / "mylab")


def planned(said: str) -> dict[str, int]:
    """How many jobs of which rule a dry run lists."""
    return {rule: int(n) for rule, n in re.findall(r"^(?!total|all)(\w+) +(\d+)$", said, re.MULTILINE)}


def test_the_next_lines_are_said(said: dict[str, str]) -> None:
    assert re.findall(r"^    (.*)", said["init"], re.MULTILINE) == ["cd mylab", "snakemake --cores all", "pytest"]


def test_the_report_has_the_verdict_of_the_claim_that_was_registered_before(lab: Path) -> None:
    (verdict,) = json.loads((lab / "results/studies/example/claims.json").read_text())
    page = (lab / "results/studies/example/report.html").read_text()
    assert verdict["claim"] == "E1" and not verdict["deviations"] and verdict["exploratory"] is None
    assert verdict["verdict"] in ("supported", "opposite", "equivalent", "inconclusive")
    assert "A product helps" in page and verdict["verdict"] in page.lower()


def test_every_run_is_in_mlflow(lab: Path) -> None:
    with sqlite3.connect(lab / "results/mlflow.db") as database:
        (seeds,) = database.execute("SELECT COUNT(*) FROM tags WHERE key = 'gt.seed'").fetchone()
    assert seeds == 6


def test_the_conformance_tests_run_on_the_projects_components_alone(said: dict[str, str]) -> None:
    tests = re.findall(r"::(.+?) PASSED", said["pytest"])
    assert len([name for name in tests if "product" in name]) > 3
    assert not [name for name in tests if "rwkv6" in name or "gated" in name]


def test_the_projects_components_are_listed_beside_those_that_ship(newcomer: Newcomer, lab: Path) -> None:
    listed = newcomer("gt", "list", cwd="mylab").splitlines()
    assert {"product", "gated"} <= {line.split()[0] for line in listed if line.strip()}


def test_an_edited_component_trains_its_own_runs_again_and_no_others(newcomer: Newcomer, other: str) -> None:
    file = Path(other, "mylab/fusions.py")
    file.write_text(file.read_text().replace("(r + m) / 2", "(r + m) / 3"))
    jobs = planned(newcomer("snakemake", "--cores", "all", "-n", cwd=other))
    assert (jobs["train"], jobs["report"]) == (3, 1)
    file.write_text(file.read_text().replace("(r + m) / 3", "(r + m) / 2") + "\n# A comment.\n")
    assert "Nothing to be done" in newcomer("snakemake", "--cores", "all", "-n", cwd=other)


def test_with_conda_a_report_by_the_projects_own_templates_is_made_by_the_installed_code_in_the_environment_of_conda(
    newcomer: Newcomer, other: str, tmp_path: Path
) -> None:
    templates = Path(other, "report_templates")
    shutil.copytree(ROOT / "report_templates", templates)
    with (templates / "report.md.j2").open("a") as file:
        file.write("\nOurs.\n")
    path = f"{conda(tmp_path / 'conda')}:{newcomer.environment / 'bin'}:/usr/bin:/bin"
    arguments = ("--cores", "all", "--use-conda", "--conda-prefix", str(tmp_path / "envs"))
    newcomer("snakemake", *arguments, "--until", "report", "--rerun-triggers", "mtime", cwd=other, PATH=path)
    (used,) = tmp_path.glob("envs/*/used")
    assert re.findall(r" -m gt (\w+)", used.read_text()) == ["report"]
    assert Path(other, "results/studies/example/report.md").read_text().endswith("Ours.\n")


def test_snakemake_reports_the_workflow_of_a_project(newcomer: Newcomer, lab: Path) -> None:
    newcomer("snakemake", "--report", "all.html", cwd="mylab")
    assert "The study as a paper" in (lab / "all.html").read_text()


def test_a_study_that_ships_is_planned_and_judged_by_its_own_claims(newcomer: Newcomer, other: str) -> None:
    said = newcomer("snakemake", "--cores", "all", "-n", "--printshellcmds", "--config", "study=fusion_extended", cwd=other)
    assert planned(said)["train"] == 5
    (claims,) = set(re.findall(r"gt claims judge .*--claims (\S+)", said))
    assert list(Path(claims).glob("registered.jsonl")) and newcomer.environment in Path(claims).parents
