"""What was worked out of sources is known as long as they are the same, and never longer."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from gt import fingerprint, known_code
from gt.fingerprint import TRAINING, code_with

Ask = Callable[[], dict[str, str]]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ask:
    """The code of two packages, as a new process of a project that has results asks for it."""
    (tmp_path / "results").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "own/__init__.py").write_text("def f(): return 1\n")
    monkeypatch.chdir(tmp_path)

    def asked() -> dict[str, str]:
        known_code._sum.cache_clear()
        code = fingerprint.Code({"own": tmp_path / "own"})
        return known_code.known(code.packages, ["own:f"], lambda: code.of("own:f"))

    return asked


def refused(*_: object) -> None:
    raise AssertionError("was parsed again")


def test_a_second_process_parses_nothing_and_an_edit_is_seen(ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = ask()
    assert first.keys() == {"own"}
    with monkeypatch.context() as patched:
        patched.setattr(ast, "parse", refused)
        assert ask() == first
    (tmp_path / "own/__init__.py").write_text("def f(): return 2\n")
    assert ask().keys() == {"own"}
    assert ask() != first
    (tmp_path / "own/__init__.py").write_text("def f(): return 1\n")
    (tmp_path / "own/more.py").write_text("x = 1\n")
    assert ask() == first


@pytest.mark.parametrize("damage", ["", "[]", '{"own": "0123456789abcdef", "sha256": "0"}'])
def test_what_is_damaged_is_worked_out_again(ask: Ask, tmp_path: Path, damage: str) -> None:
    first = ask()
    (file,) = (tmp_path / "results/.code").rglob("*.json")
    file.write_text(damage)
    assert ask() == first
    (tmp_path / "results/.code").chmod(0o500)
    file.write_text(damage)
    assert ask() == first


def test_what_a_run_executes_is_the_same_known_or_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    outside, inside = tmp_path, tmp_path / "results"
    found = []
    for folder in (inside, outside, outside):  # inside there is no results/, and nothing is remembered
        monkeypatch.chdir(folder)
        fingerprint._code.cache_clear()
        found.append(code_with(TRAINING, ()))
    assert found[0] == found[1] == found[2]
    assert not (inside / "results").exists()
