"""A mixer, a corpus, an optimizer, an evaluation with a metric and a claim on it: each a few lines in one file of a project."""

from __future__ import annotations

import ast
import json
import random
import re
import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
from newcomers import Newcomer

LAB = Path(__file__).parent / "lab"


@pytest.fixture(scope="module")
def lab(newcomer: Newcomer) -> Path:
    """A new project with the files of LAB, whose study has run."""
    newcomer("gt", "init", "ourlab")
    folder = newcomer.folder / "ourlab"
    shutil.copytree(LAB, folder, dirs_exist_ok=True)
    words, draw = ["one", "two", "three", "four", "five"], random.Random(0)
    rows = [" ".join(draw.choices(words, k=12)) for _ in range(400)]
    (folder / "sayings.csv").write_text("\n".join(["saying", *rows]) + "\n")
    newcomer("gt", "claims", "register", cwd="ourlab")
    newcomer("snakemake", "--cores", "all", "--config", "study=outside", "pack_size=4", cwd="ourlab")
    return folder


@pytest.mark.parametrize(
    ("file", "allowed"), [("mixers.py", 20), ("corpora.py", 15), ("optimizers.py", 25), ("evaluations.py", 20)]
)
def test_a_component_is_one_file_of_a_few_lines(file: str, allowed: int) -> None:
    """Imports, docstrings of classes and all; not the module's own docstring, nor empty lines."""
    text = (LAB / "ourlab" / file).read_text()
    after = ast.parse(text).body[1].lineno - 1
    assert len([line for line in text.splitlines()[after:] if line.strip()]) <= allowed


def test_a_claim_on_a_metric_from_outside_is_a_few_lines() -> None:
    assert len((LAB / "config/claims/outside.yaml").read_text().splitlines()) <= 10


def test_they_are_listed(newcomer: Newcomer, lab: Path) -> None:
    listed = {line.split()[0] for line in newcomer("gt", "list", cwd="ourlab").splitlines() if line.strip()}
    assert {"running_mean", "sayings", "adagrad", "certainty"} <= listed


def test_the_conformance_tests_run_on_them(newcomer: Newcomer, lab: Path) -> None:
    passed = re.findall(r"\[\w+-(\w+).*\] PASSED", newcomer("pytest", "-v", "-k", "not product", cwd="ourlab"))
    assert {"running_mean", "sayings", "adagrad", "certainty"} <= set(passed)
    assert passed.count("running_mean") > 15


def test_they_reach_mlflow_the_tables_and_the_report(lab: Path) -> None:
    study = lab / "results/studies/outside"
    with sqlite3.connect(lab / "results/mlflow.db") as database:
        measured = {key for (key,) in database.execute("SELECT DISTINCT key FROM metrics")}
        chosen = {value for (value,) in database.execute("SELECT DISTINCT value FROM params")}
    assert "certainty/above_0.5" in measured
    assert {"adagrad", "running_mean", "sayings"} <= chosen
    assert "certainty/above_0.5" in set(pd.read_parquet(study / "evaluations.parquet")["metric"])
    page = (study / "report.html").read_text()
    for said in ("share of tokens with more than 0.5 on one", "running_mean", "adagrad", "sayings", "sure less often"):
        assert said in page


def test_a_claim_on_the_metric_is_judged(lab: Path) -> None:
    (verdict,) = json.loads((lab / "results/studies/outside/claims.json").read_text())
    assert verdict["claim"] == "O1" and verdict["verdict"] in ("supported", "opposite", "inconclusive")
