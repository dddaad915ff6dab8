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
# What SQLAlchemy speaks to a database with -> what installs that. Without a "+" its version decides: of `postgresql` it is
# psycopg2 before 2.1, and psycopg from then on.
DRIVERS = {
    "postgresql+psycopg2": "psycopg2-binary",
    "postgresql+psycopg": "psycopg[binary]",
    "mysql+mysqldb": "mysqlclient",
    "mysql+pymysql": "pymysql",
    "mssql+pyodbc": "pyodbc",
    "mssql+pymssql": "pymssql",
}
# What helps where a store answers and refuses.
REMEDIES = {
    "postgresql": " What the URI leaves out is read from PGPASSWORD or ~/.pgpass; `createdb <name>` makes a database.",
    "http": " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD say who asks.",
}
# A database that says so may be used a little later.
BUSY = re.compile("timeout|timed out|starting up|shutting down|too many|connection slots")
# What PostgreSQL says, on a line for each address of a host, and what failed under a request of MLflow.
PLAINLY = re.compile(
    r"FATAL: *(.*)"
    r"|API request to .* failed .*?(?:(?:Errno -?\d+\] |Error\(\d+, ')([\w ,]+)|(timed out)|(too many \d+ error responses))"
)
# MLflow is patient with a server that is busy: seven retries, four minutes. Whether there is one at all is asked with the first
# of these; what an import asks is little at a time, and an import that was cut off goes on when it is repeated.
FIRST_REQUEST = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
EACH_REQUEST = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
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
    # Without MLflow this environment plans only: another one imports, and may have the driver.
    if engine in ("postgresql", "mysql", "mssql") and find_spec("mlflow") is not None:
        _check_driver(str(uri), engine)


def _check_driver(uri: str, engine: str) -> None:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        dialect = make_url(uri).get_dialect()
    except (ArgumentError, ValueError) as error:  # no such driver, or a port that is no number
        raise ConfigError(
            f"mlflow_uri: {hidden(uri)!r}: {error}. Allowed: {engine}://user@host:port/name, or with one of the drivers "
            f"{', '.join(known for known in DRIVERS if known.startswith(engine))}."
        ) from None
    try:
        dialect.import_dbapi()
    except ImportError:
        scheme = f"{engine}+{dialect.driver}"
        package = DRIVERS.get(scheme, dialect.driver)
        others = {other: own for other, own in DRIVERS.items() if other.startswith(engine) and other != scheme}
        instead = " or ".join(f"{other}://... with {own}" for other, own in others.items())
        raise ConfigError(
            f"mlflow_uri: {uri.partition(':')[0]}:// needs the Python package {package}, which is not installed here: "
            f"pip install '{package}'. Allowed instead: {instead}."
        ) from None


def check_access(uri: str) -> str:
    """Ask a shared store once, before anything is trained. ConfigError where it answers and refuses.

    Returns why it does not answer, "" where it does: one that is silent now may answer when there is something to import.
    """
    if database_file(uri) is not None or find_spec("mlflow") is None:
        return ""
    try:
        ask(uri)
    except OSError as error:
        return _reason(error)
    except RefusedError as error:
        remedy = next((own for scheme, own in REMEDIES.items() if uri.startswith(scheme)), "")
        raise ConfigError(
            f"mlflow_uri: {hidden(uri)}: {error}.{remedy} Without a server: mlflow_uri: sqlite:///results/mlflow.db"
        ) from None
    return ""


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
    except (MlflowException, SQLAlchemyError, CommandError, sqlite3.Error, OSError, RefusedError) as error:
        reason = _reason(error)
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
    ask(uri)
    return MlflowClient(uri) if uri.startswith("http") else _with_tables(uri)


class RefusedError(Exception):
    """What a store says that answers, and cannot be used: a password, a database that is not there."""


def ask(uri: str) -> None:
    """Have a server or a shared database answer once. OSError where none does within CONNECT_SECONDS, or RefusedError."""
    (_ask_server if uri.startswith("http") else _ask_database)(uri)


def _ask_server(uri: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    try:
        with limited(FIRST_REQUEST):
            _answering(MlflowClient(uri))
    except MlflowException as error:
        raise (RefusedError if error.get_http_status_code() < 500 else ConnectionError)(_reason(error)) from None


def _ask_database(uri: str) -> None:
    """MLflow would try ten times, and wait long for a host that is silent."""
    import sqlalchemy

    url = sqlalchemy.make_url(uri)
    if url.host:
        port = url.port or PORTS[url.get_backend_name()]
        socket.create_connection((url.host, port), timeout=CONNECT_SECONDS).close()
    limit = {} if url.get_backend_name() == "mssql" else {"connect_timeout": CONNECT_SECONDS}
    engine = sqlalchemy.create_engine(url, connect_args=limit)
    try:
        engine.connect().close()
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = _reason(error)
        raise (ConnectionError if BUSY.search(reason) else RefusedError)(reason) from None
    finally:
        engine.dispose()


def _reason(error: Exception) -> str:
    """What an error says in one line, of a driver's what the database says."""
    text = str(getattr(error, "orig", None) or getattr(error, "strerror", None) or error).strip()
    found = PLAINLY.search(text)
    return hidden(next(filter(None, found.groups())) if found else text.split("\n", 1)[0]).rstrip(".")


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
def limited(limits: dict[str, str]) -> Iterator[None]:
    """How often and how long MLflow tries a server, unless the user has set it."""
    ours = {name: value for name, value in limits.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]
