"""What cannot work is refused when it is planned."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from gt.errors import ConfigError
from gt.preflight import check

URI = "sqlite:///results/mlflow.db"


def plan(**model: int) -> dict[str, Any]:
    runs = {"a-run": {"model": {"n_layer": 2, "d_model": 64, **model}}}
    return {"study": "s", "runs": runs, "corpora": {}, "tokenizers": {}}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_weights_that_the_disk_has_no_room_for_are_refused(tmp_path: Path) -> None:
    check([plan()], "auto", URI, 0)
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(ConfigError, match=r"results: the weights of 1 runs take [\d,]+ MB at least, and the disk has"):
        check([plan(n_layer=free // 10**4)], "auto", URI, 0)


def test_a_gpu_is_asked_for_only_where_the_jobs_run_here() -> None:
    with pytest.raises(ConfigError, match="device: 'cuda' needs a GPU"):
        check([plan()], "cuda", URI, 0)
    check([plan()], "cuda", URI, 2)
    check([plan()], "cuda", URI, None)


def test_nothing_is_written(tmp_path: Path) -> None:
    check([plan()], "cpu", URI, 0)
    assert list(tmp_path.iterdir()) == []
