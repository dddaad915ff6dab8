"""Small trained runs, and the folders that they are exported to. No test may change them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from corpus import words
from runs import HYBRID, run_spec

from gt.export.folder import export
from gt.training.loop import Job, Settings, train

CPU = torch.device("cpu")
SIZE: dict[str, Any] = {"d_model": 16, "n_layer": 2}
MODELS: dict[str, dict[str, Any]] = {
    "hybrid": HYBRID,
    "GPT-2": {
        **SIZE,
        "layers": "a",
        "mixers": {"a": {"name": "attention", "n_head": 2, "bias": True}},
        "feed_forward": {"name": "mlp", "activation": "gelu_tanh", "bias": True},
        "norm": "layer",
        "positions": "learned",
        "max_positions": 64,
    },
    "Mamba-2": {**SIZE, "layers": "m", "mixers": {"m": {"name": "mamba2", "head_dim": 8, "d_state": 8}}},
    "RWKV-6": {
        **SIZE,
        "layers": "r",
        "mixers": {"r": {"name": "rwkv6", "head_size": 8}},
        "feed_forward": {"name": "channel_mix"},
        "norm": "layer",
        "init": {"embedding_norm": True},
    },
}


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
