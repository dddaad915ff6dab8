"""A text and a run that the tests of the evaluations share."""

from __future__ import annotations

from pathlib import Path

import pytest
from subjects import CPU, specification

from gt.data import corpora, ngram, tokenizers
from gt.spec import RunSpec, TokenizerSpec, corpus_spec
from gt.training.loop import Job, Settings, train


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokens of real text."""
    folder = tmp_path_factory.mktemp("text")
    corpora.prepare(corpus_spec("embedded", max_bytes=50_000), folder)
    tokenizers.prepare(folder, TokenizerSpec(name="char"), folder / "char")
    ngram.prepare(folder / "char")
    return folder / "char"


@pytest.fixture(scope="session")
def record(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, whose folder no test may change."""
    folder = tmp_path_factory.mktemp("record")
    training = {"steps": 2, "batch_size": 2, "sequence_length": 16, "evaluation_tokens": 64}
    spec = RunSpec.model_validate({**specification().model_dump(), "training": training})
    train(Job(spec, text, folder / "run"), folder / "checkpoints", Settings(CPU, 1e9))
    return folder / "run"
