"""`--trial SEED:N` repeats a trial of the log."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--trial", metavar="SEED:N", help="repeat a trial that the log of `make faults` has")
