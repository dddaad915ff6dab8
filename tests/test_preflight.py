"""What cannot work is refused when it is planned."""

from __future__ import annotations

from pathlib import Path

import pytest
import records

from gt.artefacts import Plan
from gt.errors import ConfigError
from gt.preflight import check

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
