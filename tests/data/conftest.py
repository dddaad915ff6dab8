"""Texts that the tests of the data stages share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gt.data import corpora
from gt.spec import CorpusSpec

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def local_corpora(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of real text that is too large, or not free enough, to be part of the repository."""
    folder = Path(os.environ.get(corpora.LOCAL, REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs real text (tinyshakespeare.txt.xz ...): set {corpora.LOCAL} to its folder; no {folder}")
    monkeypatch.setenv(corpora.LOCAL, str(folder))
    return folder


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared built-in corpus."""
    out = tmp_path_factory.mktemp("embedded")
    corpora.prepare(CorpusSpec(name="embedded"), out)
    return out
