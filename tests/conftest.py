"""Tests state what is so, and not how fast: no example of a property has a time limit. And they need no network."""

import os
from collections import Counter
from pathlib import Path

import pytest
from checkouts import Checkout
from filelock import FileLock
from hypothesis import settings

# Before a library asks for it: without, each data set that is not there is asked for again and again.
os.environ["HF_HUB_OFFLINE"] = "1"
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Files of a few long tests. Begun last, one of them would keep a process busy while the others have nothing left.
LONG = ("workflow", "faults", "house")


def pytest_sessionstart() -> None:
    """Refuse two test files of one name, of which only a run of both at once would say that it cannot import the second."""
    names = Counter(file.name for file in Path(__file__).parent.rglob("test_*.py"))
    if doubled := [name for name, n in names.items() if n > 1]:
        pytest.exit(f"Two test files are called {doubled[0]}; pytest imports them by their names.", returncode=2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long ones first; processes take the files in this order (`--no-loadscope-reorder`)."""
    items.sort(key=lambda item: not set(LONG) & set(Path(item.path).parts))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> Checkout:
    """A checkout whose tiny study has run, in packs and with --use-conda on a machine that has none.

    One for all processes of the tests, which change nothing in it.
    """
    shared = tmp_path_factory.getbasetemp().parent / f"finished-{testrun_uid}"
    with FileLock(f"{shared}.lock"):
        if shared.exists():
            return Checkout.there(shared)
        checkout = Checkout(shared)
        checkout.study()
        result = checkout.snakemake("--use-conda")
        assert result.returncode == 0, result.stderr[-3000:]
        assert result.stderr.count("There is no conda on this machine") == 1
        checkout.compile()
    return checkout


@pytest.fixture
def checkout(finished: Checkout, tmp_path: Path) -> Checkout:
    """A copy of the finished checkout, to be changed."""
    return finished.copy(tmp_path / "copy")
