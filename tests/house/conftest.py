"""One newcomer for all tests of a process: to build and install the wheel takes a while."""

from __future__ import annotations

import pytest
from newcomers import Newcomer, wheel


@pytest.fixture(scope="session")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    return Newcomer(tmp_path_factory.mktemp("newcomer"), wheel(tmp_path_factory.mktemp("build")))
