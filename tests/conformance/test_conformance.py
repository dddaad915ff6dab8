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
from gt.catalogue import KINDS

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/howto/mixer.md"

Outcomes = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """pytest in a project of these components: by component and test what it failed with, or nothing where it passed."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(HERE / "broken", folder / "broken", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "broken/mixers/of_the_page.py").write_text(code(PAGE))
    (folder / "pyproject.toml").write_text('[tool.groundthink]\npackage = "broken"\n')
    (folder / "test_components.py").write_text("from gt.conformance import *\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--junit-xml=found.xml"]
    subprocess.run(command, cwd=folder, capture_output=True, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}, check=False)
    found: Outcomes = defaultdict(dict)
    for case in ElementTree.parse(folder / "found.xml").iter("testcase"):
        test, _, setting = case.attrib["name"].rstrip("]").partition("[")
        own = found["-".join(setting.split("-")[:2])]
        own[test] = own.get(test, "") + "".join(part.attrib["message"] for part in case if part.tag in ("failure", "error"))
    return found


def code(page: Path) -> str:
    """The first block of Python of a page."""
    block = re.search(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    return block[1]


def classes() -> Iterator[Any]:
    """The components, good and broken."""
    for kind, module in KINDS.items():
        if kind == "check":  # a declaration, which its own class refuses where it is wrong
            continue
        for value in vars(import_module(f"conformance.broken.{module}")).values():
            if isinstance(value, type) and hasattr(value, "breaks"):
                yield pytest.param(f"{kind}-{value.name}", value, id=value.name)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("who", "component"), list(classes()))
def test_who_breaks_a_promise_fails_its_test_alone(who: str, component: Any, outcomes: Outcomes) -> None:
    failed = {test: message for test, message in outcomes[who].items() if message}
    assert set(failed) == set(component.breaks.split()), failed
    assert re.search(component.says, " ".join(failed.values()), re.DOTALL), failed


def test_every_promise_is_broken_by_someone(outcomes: Outcomes) -> None:
    caught = {test for own in outcomes.values() for test, message in own.items() if message}
    assert set(conformance.__all__) - caught == {"test_compiled_code_gives_what_eager_code_gives"}  # which needs a GPU


def test_the_mixer_of_the_page_keeps_its_promises_in_twenty_lines(outcomes: Outcomes) -> None:
    own = outcomes["mixer-extremes"]
    assert len(own) > 20
    assert not any(own.values()), own
    written = code(PAGE).partition("class ")[2].strip().splitlines()
    assert len([line for line in written if line.strip()]) <= 20


def test_pytest_imports_no_torch_where_it_is_not_asked_for(tmp_path: Path) -> None:
    test = "import sys\ndef test_it(): assert not {'torch', 'gt.catalogue', 'pydantic'} & set(sys.modules)\n"
    (tmp_path / "test_own.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "groundthink", "-p", "no:cacheprovider"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in result.stdout, result.stdout
