"""A PostgreSQL that runs while these tests do, and MLflow servers over databases in it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import records
from server.daemons import PASSWORD, Postgres, Server, missing, postgres, server
from tracked import small


@pytest.fixture(scope="session")
def database() -> Iterator[Postgres]:
    lacks = missing() or [name for name in ("psycopg2",) if find_spec(name) is None]
    if lacks:
        pytest.skip(f"A server takes {', '.join(lacks)}; `make test-server` installs it.")
    with postgres() as running:
        yield running


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)


@pytest.fixture
def served(database: Postgres, tmp_path: Path) -> Iterator[Server]:
    """An MLflow server as compose.yaml has it, over an empty database."""
    folder = tmp_path / "server"
    folder.mkdir()
    with server(folder, database.new()) as running:
        yield running


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """results/ with the records of a small study."""
    root = tmp_path / "results"
    records.write_runs(small(), root / "runs")
    records.write(root / "studies/synthetic/plan.json", small())
    return root
