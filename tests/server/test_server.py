"""Tracking on a real PostgreSQL, and on a real MLflow server over it (`make test-server`)."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import records
from checkouts import Checkout
from mlflow.tracking import MlflowClient
from server.daemons import Postgres, Server
from tracked import at_once, found, keys, shown, small, track

from gt.cli import main
from gt.errors import ConfigError
from gt.preflight import check_tracking

pytestmark = pytest.mark.server


def elsewhere(results: Path) -> Path:
    """The same records in the results folder of another checkout."""
    other = results.parent / "other/results"
    shutil.copytree(results, other)
    return other


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What MLflow shows of the same records where they are imported into a file."""
    results = tmp_path_factory.mktemp("alone") / "results"
    records.write_runs(small(), results / "runs")
    track(results)
    return shown(f"sqlite:///{results}/mlflow.db")


def test_a_server_shows_what_a_file_does_once(results: Path, served: Server, whole: dict[str, Any]) -> None:
    assert track(results, uri=served.uri) == {"added": 9}
    assert shown(served.uri) == whole
    assert track(results, uri=served.uri) == {"unchanged": 9}
    assert not (results / "mlartifacts").exists()
    run = next(run for run in found(served.uri) if run.data.tags["gt.key"].startswith("GPT-2.char.s0"))
    file = Path(MlflowClient(served.uri).download_artifacts(run.info.run_id, "curves.parquet"))
    assert file.read_bytes() == (results / "runs" / run.data.tags["gt.key"] / "curves.parquet").read_bytes()


def test_two_checkouts_with_two_studies_at_once(results: Path, served: Server) -> None:
    other, second = elsewhere(results), {**small(), "study": "second"}
    at_once([results, other], served.uri, [None, second])
    assert set(shown(served.uri)) == keys(small())
    assert set(shown(served.uri, "second")) == {key.replace("synthetic/", "second/") for key in keys(small())}
    for root in (results, other):
        for plan in (None, second):
            assert track(root, plan, served.uri) == {"unchanged": 9}


def test_two_checkouts_at_once_fill_an_empty_database(results: Path, database: Postgres) -> None:
    uri = database.new()
    at_once([results, elsewhere(results)], uri)
    assert set(shown(uri)) == keys(small())


# ---- kills


def test_a_first_import_into_a_database_may_be_killed_at_any_moment(
    results: Path, database: Postgres, whole: dict[str, Any]
) -> None:
    seconds = timed_import(results, database.new())
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        uri = database.new()
        assert killed_import(results, uri, share * seconds) or share > 0.8
        track(results, uri=uri)
        assert shown(uri) == whole
    assert track(results, uri=uri) == {"unchanged": 9}


def test_an_import_into_a_server_may_be_killed_at_any_moment(results: Path, served: Server, whole: dict[str, Any]) -> None:
    seconds = timed_import(results, served.uri)
    client = MlflowClient(served.uri)
    for share in (0.2, 0.4, 0.6, 0.8):
        experiment = client.get_experiment_by_name("synthetic")
        client.rename_experiment(experiment.experiment_id, f"before {share}")
        assert killed_import(results, served.uri, share * seconds) or share > 0.7
        track(results, uri=served.uri)
        assert shown(served.uri) == whole
    assert track(results, uri=served.uri) == {"unchanged": 9}


def timed_import(results: Path, uri: str) -> float:
    process = importing(results, uri)
    begun = time.monotonic()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - begun


def killed_import(results: Path, uri: str, seconds: float) -> bool:
    """Whether the kill was in time."""
    process = importing(results, uri)
    time.sleep(seconds)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    return process.exitcode == -signal.SIGKILL


def importing(results: Path, uri: str) -> multiprocessing.process.BaseProcess:
    """A process that imports, forked from this one, which has MLflow, so that it begins at once."""
    process = multiprocessing.get_context("fork").Process(target=track, args=(results,), kwargs={"uri": uri})
    process.start()
    return process


# ---- servers that are down


def test_a_server_that_dies_meanwhile_is_said_within_20_seconds_and_the_command_that_is_said_goes_on(
    results: Path, served: Server, whole: dict[str, Any]
) -> None:
    def kill_at_the_third() -> None:
        while len(found(served.uri)) < 3:
            time.sleep(0.02)
        died.append(time.monotonic())
        served.kill()

    died: list[float] = []
    MlflowClient(served.uri).create_experiment("synthetic")
    killer = threading.Thread(target=kill_at_the_third)
    killer.start()
    with pytest.raises(ConfigError, match="Nothing is lost") as caught:
        track(results, uri=served.uri)
    killer.join()
    assert time.monotonic() - died[0] < 20

    served.start()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = str(caught.value).split("To import them later: ")[1]
    subprocess.run(command, shell=True, check=True, env={**os.environ, "PATH": path})
    assert shown(served.uri) == whole


@pytest.mark.parametrize("what", ["server", "database"])
def test_one_that_is_silent_is_said_within_20_seconds(results: Path, served: Server, database: Postgres, what: str) -> None:
    uri = served.uri if what == "server" else database.uri("postgres")
    stop = served.signal if what == "server" else database.process.send_signal
    stop(signal.SIGSTOP)
    try:
        begun = time.monotonic()
        with pytest.raises(ConfigError, match="Nothing is lost"):
            track(results, uri=uri)
        assert time.monotonic() - begun < 20
    finally:
        stop(signal.SIGCONT)


def test_a_study_that_ends_while_the_server_is_down_loses_nothing(served: Server, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "c")
    checkout.study()
    served.kill()
    result = checkout.snakemake(mlflow_uri=served.uri)
    assert result.returncode == 1
    begun, _, ended = result.stderr.partition(f"MLflow at {served.uri} does not answer")
    assert "rule" not in begun
    command = f"python -m gt track --plan results/studies/tiny/plan.json --runs results/runs --uri {served.uri}"
    assert f"To import them later: {command}" in ended
    assert (checkout.folder / "results/studies/tiny/report.html").exists()

    served.start()
    assert checkout.planned(mlflow_uri=served.uri) == {"track": 1}
    assert checkout.snakemake(mlflow_uri=served.uri).returncode == 0
    assert len(found(served.uri, study="tiny")) == 6


# ---- what a store refuses


@pytest.mark.parametrize("wrong", ["password", "user", "database"])
def test_what_a_database_refuses_is_said_before_anything_is_trained(
    results: Path,
    database: Postgres,
    wrong: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    uri = database.uri("nothing" if wrong == "database" else "postgres", "nobody" if wrong == "user" else "mlflow")
    if wrong == "password":
        monkeypatch.setenv("PGPASSWORD", "another")
    said = {
        "password": 'password authentication failed for user "mlflow"',
        "user": 'password authentication failed for user "nobody"',
        "database": 'database "nothing" does not exist',
    }[wrong]
    with pytest.raises(ConfigError, match=said):
        check_tracking(uri)
    command = ["track", "--plan", str(results / "studies/synthetic/plan.json"), "--runs", str(results / "runs"), "--uri", uri]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert said in message
    if wrong == "password":
        checkout = Checkout(tmp_path / "c")
        checkout.study()
        refused = checkout.snakemake(mlflow_uri=uri)
        assert refused.returncode == 2
        assert said in refused.stderr
        assert not (checkout.folder / "results/runs").exists()
