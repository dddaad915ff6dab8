"""A tiny study that has run, for the tests that change something in a copy of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkouts import Checkout
from filelock import FileLock


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> Checkout:
    """A checkout whose tiny study has run, with --use-conda on a machine that has none: one for all processes of the tests."""
    shared = tmp_path_factory.getbasetemp().parent / f"finished-{testrun_uid}"
    with FileLock(f"{shared}.lock"):
        if shared.exists():
            return Checkout.there(shared)
        checkout = Checkout(shared)
        checkout.study()
        result = checkout.snakemake("--use-conda")
        assert result.returncode == 0, result.stderr[-3000:]
        assert result.stderr.count("There is no conda on this machine") == 1
    return checkout


@pytest.fixture
def checkout(finished: Checkout, tmp_path: Path) -> Checkout:
    """A copy of the finished checkout, to be changed."""
    return finished.copy(tmp_path / "copy")
