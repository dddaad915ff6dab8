"""Small trained runs, and the folders that they are exported to. No test may change them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from corpus import words
from exports import MODELS
from runs import run_spec

from gt.export.folder import export
from gt.training.loop import Job, Settings, train

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tokens."""
    return words(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="session")
def record(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The record of a run of one of MODELS."""

    @cache
    def trained(name: str) -> Path:
        folder = tmp_path_factory.mktemp("runs")
        spec = run_spec(MODELS[name])
        train(Job(spec, data, folder / spec.run_id), folder / "checkpoints", Settings(CPU, 1e9))
        return folder / spec.run_id

    return trained


@pytest.fixture(scope="session")
def exported(record: Callable[[str], Path], data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Its folder."""

    @cache
    def folder(name: str, library: str = "transformers") -> Path:
        out = tmp_path_factory.mktemp("exports") / f"{name}-{library}"
        export(record(name), data, library, out)
        return out

    return folder
