"""Records in a bucket: moto's server plays S3 on this machine (`make test-s3`)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from checkouts import Checkout

from gt.errors import ConfigError
from gt.store import Store

pytestmark = pytest.mark.s3


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of a server, on a port that it chose itself."""
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said = next(line for line in server.stderr if "Running on http://" in line)
        yield said.split("Running on ")[1].split()[0]
        server.terminate()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket that is empty, which the variables of this process lead to."""
    variables = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ENDPOINT_URL": endpoint}
    for name, value in {**variables, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    name = f"b{time.time_ns()}"
    connection = HTTPConnection(endpoint.removeprefix("http://"))
    connection.request("PUT", f"/{name}")
    assert connection.getresponse().status == 200
    return name


def test_an_empty_folder_goes_on_from_a_bucket(bucket: str, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "c")
    checkout.study(variants=["GPT-2"], seeds=2)
    clone = checkout.copy(tmp_path / "clone")
    address = f"s3://{bucket}/lab"
    result = checkout.snakemake(store=address)
    assert result.returncode == 0, result.stderr[-3000:]
    runs = {file.parent.name for file in checkout.folder.glob("results/runs/*/manifest.json")}
    assert Store(address).runs() == runs and len(runs) == 2
    result = clone.snakemake(store=address)
    assert result.returncode == 0, result.stderr[-3000:]
    assert not list(clone.folder.glob("logs/pack/*"))
    assert (clone.folder / "results/studies/tiny/report.pdf").exists()
    assert clone.planned(store=address) == {}


def test_a_bucket_that_is_not_there_is_refused(bucket: str) -> None:
    with pytest.raises(ConfigError, match="config: store: s3://another/lab: there is no another."):
        Store("s3://another/lab").runs()


def test_a_server_that_does_not_answer_is_refused(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    store = Store(f"s3://{bucket}/lab")
    store.files = type(store.files)(skip_instance_cache=True)
    with pytest.raises(ConfigError, match=rf"config: store: s3://{bucket}/lab cannot be read"):
        store.runs()
