"""A Slurm that runs while these tests do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster.slurm import Cluster, cluster, missing


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if lacks := missing():
        pytest.skip(f"A cluster takes {', '.join(lacks)}; `make test-cluster` installs what Debian has of it.")
    with cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running
