"""What cannot work is refused when it is planned."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import records

from gt.artefacts import Plan
from gt.errors import ConfigError
from gt.preflight import check, check_tracking

CELL = {"id": "A.embedded.char", "variant": "A", "corpus": "embedded", "tokenizer": "char", "factors": {}}
URI = "sqlite:///results/mlflow.db"


def plan(**model: int) -> Plan:
    return records.planned(records.assembled("s", [(CELL, {"model": {**records.ALONE, **model}}, [0])]))


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_weights_that_the_disk_has_no_room_for_are_refused() -> None:
    check([plan()], "auto", URI, 0)
    with pytest.raises(ConfigError, match=r"results: the weights of 1 runs take [\d,]+ MB at least, and the disk has"):
        check([plan(n_layer=1000, d_model=65_536)], "auto", URI, 0)


def test_a_gpu_is_asked_for_only_where_the_jobs_run_here() -> None:
    with pytest.raises(ConfigError, match="device: 'cuda' needs a GPU"):
        check([plan()], "cuda", URI, 0)
    check([plan()], "cuda", URI, 2)
    check([plan()], "cuda", URI, None)


def test_a_place_where_nothing_can_be_written_or_tracked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mlflow_uri: 'results/mlruns' is not a database or a server"):
        check([plan()], "cpu", "results/mlruns", 0)
    (tmp_path / "logs").touch()
    with pytest.raises(ConfigError, match="logs: must be a folder, and is a file"):
        check([plan()], "cpu", URI, 0)


def test_nothing_is_written(tmp_path: Path) -> None:
    check([plan()], "cpu", URI, 0)
    assert list(tmp_path.iterdir()) == []


# ---- a server for the runs


@pytest.fixture
def web() -> Iterator[HTTPServer]:
    """A web server that says what its `status` is, and no more."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(self.server.status)  # type: ignore[attr-defined]

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "said"), [(401, "MLFLOW_TRACKING_USERNAME"), (404, "404")])
def test_a_server_that_refuses_is_an_error_before_anything_is_trained(web: HTTPServer, status: int, said: str) -> None:
    web.status = status  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=f"mlflow_uri: http://127.0.0.1:{web.server_port}: .*{said}"):
        check_tracking(f"http://127.0.0.1:{web.server_port}")


def test_one_that_is_unwell_is_only_said(web: HTTPServer, capsys: pytest.CaptureFixture[str]) -> None:
    web.status = 503  # type: ignore[attr-defined]
    check_tracking(f"http://127.0.0.1:{web.server_port}")
    assert "runs are trained, and imported at the end" in capsys.readouterr().err
