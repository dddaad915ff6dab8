"""Bars are drawn on terminals alone."""

from __future__ import annotations

import io
import sys

import pytest

from gt.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert list(progress("abc", "figures", "figure")) == ["a", "b", "c"]
    assert "figures:   0%" in terminal.getvalue() and "0/3" in terminal.getvalue()
    assert terminal.getvalue().rpartition("\r")[0].endswith(" ")  # wiped


def test_a_log_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    assert list(progress("abc", "figures", "figure")) == ["a", "b", "c"]
    assert log.getvalue() == ""
