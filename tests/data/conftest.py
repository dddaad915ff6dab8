"""Texts that the tests of the data stages share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gt.data import corpora
from gt.data.readers.local import LOCAL
from gt.spec import corpus_spec

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def local_corpora(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of real text that is too large, or not free enough, to be part of the repository."""
    folder = Path(os.environ.get(LOCAL, REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs real text (tinyshakespeare.txt.xz ...): set {LOCAL} to its folder; no {folder}")
    monkeypatch.setenv(LOCAL, str(folder))
    return folder


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared built-in corpus."""
    out = tmp_path_factory.mktemp("embedded")
    corpora.prepare(corpus_spec("embedded"), out)
    return out
