"""A study that is disturbed ends as its undisturbed twin: a few trials of `make faults`, and what it would notice."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from checkouts import ROOT, Checkout
from faults.compare import differences
from faults.driver import Machine
from faults.kinds import KINDS, flip
from faults.study import Study, Twin

from gt.records import read_json, write_json

pytestmark = pytest.mark.faults
KIND = {kind.name: kind for kind in KINDS}


@pytest.fixture(scope="module")
def machine(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Whose twin is the study that all tests of the workflow share; `make faults` makes one of three architectures."""
    folder = tmp_path_factory.mktemp("faults")
    machine, twin = Machine(folder, seed=0, seeds=2, out=folder / "out"), Study.there(finished.folder)
    twin.packed = True
    machine.twins[True] = Twin({"finished": twin})
    return machine


@pytest.fixture
def study(machine: Machine, tmp_path: Path) -> Study:
    """A copy of the twin, to be changed."""
    return machine.twins[True].finished.copy(tmp_path / "copy")


def test_a_disturbed_study_ends_as_its_twin(machine: Machine) -> None:
    """One kind of fault; `make faults` goes through all of them, kills included, for as long as one likes."""
    line = machine.trial(0, replace(KIND["A run's record is damaged"], packed=True))
    assert line["faults"]
    assert not line["reasons"], json.dumps(line, indent=2)


def test_a_trial_of_the_log_is_repeated(pytestconfig: pytest.Config) -> None:
    if not (trial := pytestconfig.getoption("--trial", default=None)):
        pytest.skip("no --trial SEED:N")
    seed, number = trial.split(":")
    command = [sys.executable, "-m", "faults.driver", "--seed", seed, "--only", number]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_copy_of_the_twin_is_the_twin(machine: Machine, study: Study) -> None:
    assert differences(machine.twins[True].finished, study) == []


def a_bit_of_the_weights(study: Study) -> str:
    file = min(study.results.glob("runs/*/model.safetensors"))
    flip(file, 0.9)
    return str(file.relative_to(study.folder))


def a_bit_of_the_curves(study: Study) -> str:
    file = min(study.results.glob("runs/*/curves.parquet"))
    frame = pd.read_parquet(file)
    losses = frame["train/loss"].to_numpy(copy=True)
    losses[-1] = np.nextafter(losses[-1], losses.dtype.type(9))
    frame["train/loss"] = losses
    frame.to_parquet(file)
    return str(file.relative_to(study.folder))


def a_number_of_an_evaluation(study: Study) -> str:
    file = min(study.results.glob("runs/*/evaluations/held_out.json"))
    value = read_json(file)
    value["measurements"][0]["value"] += 1e-12
    write_json(file, value)
    return str(file.relative_to(study.folder))


def a_run_of_mlflow_twice(study: Study) -> str:
    with closing(sqlite3.connect(study.results / "mlflow.db")) as database:
        columns = ", ".join(row[1] for row in database.execute("pragma table_info(runs)") if row[1] != "run_uuid")
        database.execute(f"insert into runs (run_uuid, {columns}) select 'again', {columns} from runs limit 1")
        database.commit()
    return "results/mlflow.db"


def a_part_of_a_file(study: Study) -> str:
    (study.results / ".mlflow.db.7.tmp").touch()
    return "results/.mlflow.db.7.tmp"


def a_report_that_is_gone(study: Study) -> str:
    (study.results / "studies/tiny/report.html").unlink()
    return "results/studies/tiny/report.html"


@pytest.mark.parametrize(
    "change",
    [
        a_bit_of_the_weights,
        a_bit_of_the_curves,
        a_number_of_an_evaluation,
        a_run_of_mlflow_twice,
        a_part_of_a_file,
        a_report_that_is_gone,
    ],
)
def test_what_is_not_the_twins_is_named(machine: Machine, study: Study, change: Callable[[Study], str]) -> None:
    name = change(study)
    (line,) = differences(machine.twins[True].finished, study)
    assert line.startswith(f"{name}: ")
