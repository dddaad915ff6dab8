"""A PostgreSQL and an MLflow server that run while tests do, on loopback, in folders of their own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from checkouts import ROOT

PASSWORD = "of the tests, with / and @"  # as a URI cannot have it
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
WAIT_SECONDS = 120


class Postgres:
    """A database server. Its user `mlflow` has a password and may make databases."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port, self.made = process, port, 0

    def uri(self, database: str, user: str = "mlflow") -> str:
        """Without the password, which PGPASSWORD has."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def new(self) -> str:
        """The URI of an empty database."""
        self.made += 1
        self.ask("postgres", f"CREATE DATABASE made{self.made}")
        return self.uri(f"made{self.made}")

    def answers(self) -> bool:
        import psycopg2

        try:
            return bool(self.ask("postgres", "SELECT 1"))
        except psycopg2.OperationalError:
            return False

    def ask(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """What a statement finds, if it finds anything."""
        import psycopg2

        connection = psycopg2.connect(self.uri(database), password=PASSWORD)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


def program(name: str) -> str | None:
    """Where one of PostgreSQL's programs is; Debian has the server's beside its path."""
    return shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)), None)


def missing() -> list[str]:
    """What a PostgreSQL takes that this machine lacks."""
    return [name for name in ("initdb", "postgres") if program(name) is None]


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that ends with the block. It refuses to run as root, and then runs as Debian's user `postgres`."""
    folder = Path(tempfile.mkdtemp(prefix="gt-postgres-"))
    as_user: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    try:
        (folder / "password").write_text(PASSWORD)
        if as_user:
            for path in (folder, folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        port = free_port()
        made = ["--username=mlflow", f"--pwfile={folder / 'password'}", "--auth=scram-sha-256", "--no-sync", "--encoding=UTF8"]
        command = [str(program("initdb")), f"--pgdata={folder / 'data'}", *made]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, **as_user)
        settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder}
        options = [f"--{name}={value}" for name, value in settings.items()]
        command = [str(program("postgres")), "-D", str(folder / "data"), *options]
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, **as_user)
        running = Postgres(process, port)
        try:
            wait_for(running.answers, process)
            yield running
        finally:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGINT)  # at once, whoever is connected
            process.wait()
    finally:
        shutil.rmtree(folder)


class Server:
    """An MLflow server that can be killed and started again."""

    def __init__(self, folder: Path, store: str, workers: int = 2) -> None:
        """folder: of its log and of the files of runs."""
        self.folder, self.port = folder, free_port()
        changes = {
            "--backend-store-uri": store,
            "--artifacts-destination": str(folder / "artifacts"),
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--workers": str(workers),
        }
        self.command = [f"{name}={changes.get(name, value)}" if value else name for name, value in arguments()]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        environment = {**os.environ, **QUIET, "PGPASSWORD": PASSWORD}
        with open(self.folder / "server.log", "ab") as log:
            command = [sys.executable, "-m", *self.command]
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self.answers, self.process)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        """To all of its processes."""
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


@contextmanager
def server(folder: Path, store: str, workers: int = 2) -> Iterator[Server]:
    """An MLflow server that ends with the block, over a store."""
    running = Server(folder, store, workers)
    try:
        running.start()
        yield running
    finally:
        running.kill()


def arguments() -> list[tuple[str, str]]:
    """How compose.yaml starts MLflow: names and values, of its first two words the value is empty."""
    command = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["mlflow"]["command"]
    return [(name, value) for name, _, value in (part.partition("=") for part in command)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(ready: Any, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not ready():
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        assert time.monotonic() < end, f"{process.args} is not ready after {WAIT_SECONDS} s"
        time.sleep(0.1)
