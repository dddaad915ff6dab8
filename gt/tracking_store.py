"""Where MLflow keeps what is imported: the database in the results folder, a shared database, or a server.

MLflow is a view of the run records. So nothing here is worth more than a clear message, and nothing here deletes a database.
"""

from __future__ import annotations

import fcntl
import glob
import logging
import os
import re
import shlex
import socket
import sqlite3
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from gt.errors import ConfigError, nearest
from gt.records import atomic_write

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from mlflow.tracking import MlflowClient

PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433, "http": 80, "https": 443}
SCHEMES = ("sqlite", *PORTS)
# Scheme -> the module that SQLAlchemy imports for it, and what installs that.
DRIVERS = {
    "postgresql": ("psycopg2", "psycopg2-binary"),
    "postgresql+psycopg2": ("psycopg2", "psycopg2-binary"),
    "postgresql+psycopg": ("psycopg", "psycopg[binary]"),
    "mysql": ("MySQLdb", "mysqlclient"),
    "mysql+mysqldb": ("MySQLdb", "mysqlclient"),
    "mysql+pymysql": ("pymysql", "pymysql"),
    "mssql": ("pyodbc", "pyodbc"),
    "mssql+pyodbc": ("pyodbc", "pyodbc"),
    "mssql+pymssql": ("pymssql", "pymssql"),
}
# MLflow is patient with a server that is busy: seven retries, four minutes. Whether there is one at all is asked with these.
FIRST_REQUEST = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "7",
}
CONNECT_SECONDS = 10
# Two that make the tables of an empty database at once: one of them fails, and finds them a little later.
ATTEMPTS, WAIT_SECONDS = 5, 2.0


def check_uri(uri: str) -> None:
    """ConfigError for a URI that MLflow cannot use here. Quick, without MLflow and without the network: for the plan."""
    scheme, _, rest = str(uri).partition("://")
    engine = scheme.split("+", 1)[0]
    if engine not in SCHEMES or not rest.strip("/") or rest == "/:memory:":
        hint = "" if not rest or engine in SCHEMES else nearest(engine, SCHEMES).split(" Allowed:")[0]
        raise ConfigError(
            f"mlflow_uri: {hidden(str(uri))!r} is not a database or a server, and MLflow no longer writes into folders.{hint} "
            "Allowed: sqlite:///results/mlflow.db, another database's URI (postgresql, mysql or mssql://user@host/name), "
            "or http(s)://host:port."
        )
    module, package = DRIVERS.get(scheme, (None, None))
    # Without MLflow this environment plans only: another one imports, and may have the driver.
    if module is not None and find_spec(module) is None and find_spec("mlflow") is not None:
        others = {other: p for other, (_, p) in DRIVERS.items() if other.startswith(f"{engine}+") and p != package}
        instead = " or ".join(f"{other}://... with {p}" for other, p in others.items())
        raise ConfigError(
            f"mlflow_uri: {scheme}:// needs the Python package {package}, which is not installed here: "
            f"pip install '{package}'. Allowed instead: {instead}."
        )


def hidden(uri: str) -> str:
    """A URI without its password."""
    return re.sub(r"//([^:/@]*):[^/]*@", r"//\1:***@", uri)


def database_file(uri: str) -> Path | None:
    """The file of an SQLite database."""
    return Path(uri.split(":///", 1)[1].split("?", 1)[0]) if uri.startswith("sqlite") else None


def is_own(uri: str, results: Path) -> bool:
    """Whether the database lies in the results folder, and is its view alone."""
    file = database_file(uri)
    return file is not None and file.resolve().parent == results.resolve()


def name_of(results: Path) -> str:
    """A name that a results folder keeps when it is moved. A copy of it has the same until its mlflow.id is deleted."""
    file = results / "mlflow.id"
    if not file.exists():
        with atomic_write(file) as temporary:
            temporary.write_text(uuid.uuid4().hex + "\n", encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()


@contextmanager
def locked(uri: str, results: Path) -> Iterator[None]:
    """One importer at a time into an SQLite database, or from a results folder: a look-up and an addition are two steps."""
    path = (database_file(uri) or results / "mlflow").with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def explained(uri: str, again: str, file: Path | None = None) -> Iterator[None]:
    """What goes wrong with a database or a server, as one message: what it was, that nothing is lost, and what to do.

    again: the command that imports once more. file: a database that is being opened, and may be broken.
    """
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, CommandError, sqlite3.Error, OSError) as error:
        reason = hidden(str(error).strip().split("\n", 1)[0]).rstrip(".")
        remedy = f"To import them later: {again}"
        if file is not None and not isinstance(error, OSError) and not re.search("locked|readonly|full", reason):
            remedy = f"If {file} holds nothing of your own, delete it and make it again: rm {shlex.quote(str(file))} && {again}"
        raise ConfigError(
            f"MLflow at {hidden(uri)}: {reason}. Nothing is lost: MLflow is a view of the run records. {remedy}"
        ) from None


def connect(uri: str, again: str) -> MlflowClient:
    """A client of a database that has its tables, or of a server that answers. again: as in `explained`."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # standard output has the counts
    from mlflow.tracking import MlflowClient

    # What fails is raised, and said once; the INFO lines and retries of these would stand before it.
    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    file = database_file(uri)
    if file is not None:
        with explained(uri, again, file):
            _make(file)
            with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True, timeout=20)) as connection:
                connection.execute("SELECT count(*) FROM sqlite_master")  # MLflow tries for minutes what is no database
            return _answering(MlflowClient(uri))
    if uri.startswith("http"):
        with _impatient():
            return _answering(MlflowClient(uri))
    _try_connection(uri)
    return _with_tables(uri)


def experiment_of(client: MlflowClient, name: str, uri: str, results: Path) -> Experiment:
    """The study's experiment. One that was deleted in the UI comes back.

    MLflow keeps the place of the artifacts as an absolute path, which a server chooses, and else is `mlartifacts/` in the
    results folder. Where this folder has been moved or copied with its own database, the old experiment is put aside under
    another name, and all is imported anew. In a shared database all results folders use the place of the first.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

    folder = (results / "mlartifacts" / name).resolve()
    location = None if uri.startswith("http") else folder.as_uri()
    found: Experiment | None = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if found is not None and is_own(uri, results) and found.artifact_location.rstrip("/") != location:
        client.rename_experiment(found.experiment_id, f"{name} (moved, {found.experiment_id})")
        client.delete_experiment(found.experiment_id)
        found = None
    if found is None:
        try:
            client.create_experiment(name, artifact_location=location)
        except MlflowException as error:  # another results folder was first
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
        found = client.get_experiment_by_name(name)
    if found.artifact_location.rstrip("/") == location:
        folder.mkdir(parents=True, exist_ok=True)
    return found


def takes_files(experiment: Experiment, uri: str) -> bool:
    """Whether artifacts can be written from here. Says so where they cannot: the rest is imported without them."""
    parts = urlsplit(experiment.artifact_location)
    if uri.startswith("http") or parts.scheme not in ("", "file"):
        return True
    folder = Path(unquote(parts.path))
    if folder.is_dir() and os.access(folder, os.W_OK):
        return True
    print(
        f"gt: MLflow at {hidden(uri)}: runs are imported without their files, for the experiment {experiment.name} keeps "
        f"them in {folder}, which cannot be written from here. `mlflow server` takes files from everywhere; once this "
        "experiment has another name, the next import makes one whose files lie here.",
        file=sys.stderr,
    )
    return False


def _make(file: Path) -> None:
    """Make an SQLite database that is not there, whole or not at all: its migrations are many transactions."""
    from mlflow.tracking import MlflowClient

    for left in file.parent.glob(f".{glob.escape(file.name)}.*.tmp*"):  # of an import that was killed
        left.unlink()
    if not file.exists() or file.stat().st_size == 0:
        with atomic_write(file) as temporary:
            _answering(MlflowClient(f"sqlite:///{temporary}"))


def _try_connection(uri: str) -> None:
    """Connect to a database once, where MLflow tries ten times, and without waiting long for a host that is silent."""
    import sqlalchemy

    url = sqlalchemy.make_url(uri)
    if url.host:
        port = url.port or PORTS[url.get_backend_name()]
        socket.create_connection((url.host, port), timeout=CONNECT_SECONDS).close()
    engine = sqlalchemy.create_engine(url)
    engine.connect().close()
    engine.dispose()


def _with_tables(uri: str) -> MlflowClient:
    from alembic.util import CommandError
    from mlflow.tracking import MlflowClient
    from sqlalchemy.exc import SQLAlchemyError

    for _ in range(ATTEMPTS - 1):
        try:
            return _answering(MlflowClient(uri))
        except (SQLAlchemyError, CommandError):
            time.sleep(WAIT_SECONDS)
    return _answering(MlflowClient(uri))


def _answering(client: MlflowClient) -> MlflowClient:
    client.search_experiments(max_results=1)
    return client


@contextmanager
def _impatient() -> Iterator[None]:
    """Few and short attempts, unless the user has set how many and how long."""
    ours = {name: value for name, value in FIRST_REQUEST.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]
