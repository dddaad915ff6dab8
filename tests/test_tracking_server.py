"""The import through an MLflow server. This one is over SQLite; tests/server has it over PostgreSQL."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import records
from checkouts import ROOT
from mlflow.tracking import MlflowClient
from server.daemons import Server, arguments, server
from tracked import of, read, small, track

from gt.errors import ConfigError
from gt.preflight import check_tracking


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with server(folder, f"sqlite:///{folder}/mlflow.db", workers=1) as running:
        yield running


def test_runs_and_files_go_through_a_server_once_and_one_that_is_down_is_said_soon(
    served: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, other = tmp_path / "results", tmp_path / "other/results"
    records.write_runs(small(), results / "runs")
    shutil.copytree(results, other)
    check_tracking(served.uri)
    assert capsys.readouterr().err == ""
    assert track(results, uri=served.uri) == {"added": 9}
    for root in (results, other):
        assert track(root, uri=served.uri) == {"unchanged": 9}
    run = read(results, served.uri)[1][of("GPT-2.char.s0")]
    for name in ("curves.parquet", "evaluations/held_out.json"):
        file = Path(MlflowClient(served.uri).download_artifacts(run.info.run_id, name))
        assert file.read_bytes() == (results / "runs" / of("GPT-2.char.s0") / name).read_bytes()
    assert {file.name for file in results.iterdir()} == {"runs", "mlflow.id", "mlflow.lock"}

    served.kill()
    begun = time.monotonic()
    check_tracking(served.uri)
    assert f"gt: MLflow at {served.uri} does not answer: " in capsys.readouterr().err
    with pytest.raises(ConfigError, match="Nothing is lost.*To import them later: python -m gt track"):
        track(results, uri=served.uri)
    assert time.monotonic() - begun < 20


def test_the_page_says_to_start_what_compose_starts() -> None:
    page = (ROOT / "docs/howto/mlflow.md").read_text()
    (command,) = (
        line.split("mlflow server ")[1] for line in page.splitlines() if "mlflow server --backend-store-uri=postgresql" in line
    )
    assert {word.partition("=")[0] for word in command.split()} == {name for name, value in arguments() if value}
