"""The conformance tests themselves: who breaks a promise fails the test of that promise, in its words, and no other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from gt import conformance

HERE = Path(__file__).parent
PROJECT = '[tool.groundthink]\npackage = "{}"\n'
TESTS = "from gt.conformance import *\n"


def run(folder: Path, package: Path) -> dict[str, dict[str, str]]:
    """pytest in a project with that package: by component and test what it failed with, or nothing where it passed."""
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pyproject.toml").write_text(PROJECT.format(package.name))
    (folder / "test_components.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "--junit-xml=found.xml"]
    subprocess.run(command, cwd=folder, capture_output=True, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}, check=False)
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for case in ElementTree.parse(folder / "found.xml").iter("testcase"):
        test, _, setting = case.attrib["name"].rstrip("]").partition("[")
        failures = [own for own in case if own.tag in ("failure", "error")]
        kept = found["-".join(setting.split("-")[:2])]
        kept[test] = kept.get(test, "") + "".join(own.attrib["message"] for own in failures)
    return found


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    return run(tmp_path_factory.mktemp("project"), HERE / "broken")


def classes() -> Iterator[Any]:
    """The components of the package, good and broken."""
    for kind, module in {"mixer": "mixers", "fusion": "fusions", "feed_forward": "feed_forward"}.items():
        for value in vars(import_module(f"conformance.broken.{module}")).values():
            if isinstance(value, type) and "breaks" in vars(value):
                yield pytest.param(f"{kind}-{value.name}", value, id=value.name)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("who", "component"), list(classes()))
def test_who_breaks_a_promise_fails_its_test_alone(who: str, component: Any, broken: dict[str, dict[str, str]]) -> None:
    failed = {test: message for test, message in broken[who].items() if message}
    assert set(failed) == set(component.breaks.split()), failed
    if failed:
        assert re.search(component.says, " ".join(failed.values()), re.DOTALL), failed


def test_every_promise_is_broken_by_someone(broken: dict[str, dict[str, str]]) -> None:
    tests = set(conformance.__all__)
    caught = {test for own in broken.values() for test, message in own.items() if message}
    assert tests - caught == {"test_compiled_code_gives_what_eager_code_gives"}  # which needs a GPU
