"""Snakemake and its jobs in environments that have no more than they are said to need."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from checkouts import ROOT, Checkout
from environments import conda, environment


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has Snakemake alone: no torch, no numpy."""
    return environment(tmp_path_factory.mktemp("alone"), ["snakemake"])


@dataclass
class Conda:
    """A conda, Snakemake alone, and a user whose own packages end every Python that looks for them."""

    folder: Path
    python: Path

    def snakemake(self, checkout: Checkout, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        variables = {
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
            "PYTHONUSERBASE": str(self.folder / "user"),
            "PYTHONNOUSERSITE": "",
        }
        arguments = ("--use-conda", "--conda-prefix", str(self.folder / "envs"), *arguments)
        return checkout.snakemake(*arguments, python=self.python, variables=variables, **settings)

    def calls(self) -> list[str]:
        """How the Python of the environment was called. There is one environment."""
        (file,) = self.folder.glob("envs/*/used")
        return file.read_text().splitlines()


@pytest.fixture(scope="module")
def with_conda(alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Conda:
    folder = tmp_path_factory.mktemp("conda")
    conda(folder)
    site = folder / f"user/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    site.mkdir(parents=True)
    (site / "usercustomize.py").write_text("raise SystemExit('the packages of the user')")
    return Conda(folder, alone)


@pytest.fixture(scope="module")
def finished(with_conda: Conda, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose study of one run was planned by Snakemake alone, and run in the environment that conda made."""
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    checkout.study(variants=["GPT-2"], seeds=1, evaluations=[])
    result = with_conda.snakemake(checkout)
    assert result.returncode == 0, result.stderr[-3000:]
    return checkout


def test_every_job_runs_in_the_environment_that_conda_makes(finished: Checkout, with_conda: Conda) -> None:
    stages = [call.split(" -m gt ")[1].split()[0] for call in with_conda.calls() if " -m gt " in call]
    assert sorted(stages) == ["aggregate", "claims", "corpus", "figures", "pack", "report", "tokenize", "track"]
    assert sum(" -m gt.fetch " in call for call in with_conda.calls()) == 3
    assert (finished.folder / "results/studies/tiny/report.pdf").exists()


def test_the_second_call_with_conda_has_nothing_to_do(finished: Checkout, with_conda: Conda) -> None:
    before = with_conda.calls()
    result = with_conda.snakemake(finished)
    assert result.returncode == 0
    assert "Nothing to be done" in result.stderr
    assert with_conda.calls() == before


def test_two_checkouts_share_an_environment(finished: Checkout, with_conda: Conda, tmp_path: Path) -> None:
    before = with_conda.calls()
    result = with_conda.snakemake(finished.copy(tmp_path / "other"), "--forcerun", "aggregate", "--until", "aggregate")
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Creating conda environment" not in result.stderr
    (call,) = with_conda.calls()[len(before) :]
    assert " -m gt aggregate " in call


def test_snakemake_alone_says_what_it_takes_to_run_jobs(alone: Path, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "c")
    checkout.study()
    result = checkout.snakemake("-n", python=alone)
    assert result.returncode == 2
    assert re.search(r"^There is no (numpy|torch) in ", result.stderr, re.MULTILINE)
    assert "pip install -e " in result.stderr
    assert "--use-conda" in result.stderr
    assert "Traceback" not in result.stderr


def test_snakemake_alone_says_what_it_takes_to_plan_a_recall_task(with_conda: Conda, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "c")
    checkout.study(corpora=[{"name": "task:mqar", "task": {"length": 16, "items": [2], "symbols": 8}}])
    result = with_conda.snakemake(checkout, "-n")
    assert result.returncode == 2
    assert "There is no numpy in " in result.stderr
    assert result.stderr.rstrip().endswith("pip install pydantic pyyaml numpy")
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def run_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of what `make run` installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return environment(tmp_path_factory.mktemp("run"), project["dependencies"])


@pytest.mark.parametrize("name", ["report.zip", "report.html"])
def test_what_make_run_installs_suffices_for_snakemakes_report(finished: Checkout, run_environment: Path, name: str) -> None:
    result = finished.snakemake("--report", name, python=run_environment)
    assert result.returncode == 0, result.stderr[-3000:]
    if name == "report.zip":
        with zipfile.ZipFile(finished.folder / name) as packed:
            page = "".join(packed.read(part).decode() for part in packed.namelist() if part.endswith(".html"))
    else:
        page = (finished.folder / name).read_text()
    assert "The study as a paper" in page
    assert "Every seed is shown" in page
